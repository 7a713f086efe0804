//! A client with one connection, which knows what it should be answered.

use crate::fill::{HOST, body_of, path_of};
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Pause between two tries to connect.
const RETRY: Duration = Duration::from_millis(1);

pub(crate) struct Client(BufReader<TcpStream>);

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    cache_status: String,
}

impl Client {
    /// Connects as soon as somebody listens.
    pub(crate) fn until_connected(address: &str, deadline: Instant) -> Result<Self> {
        loop {
            match TcpStream::connect(address) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
                    return Ok(Client(BufReader::new(stream)));
                }
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("nobody listens on {address}"));
                }
                Err(_) => std::thread::sleep(RETRY),
            }
        }
    }

    /// Asks for an entry, which has to come from disk, and says how long that took.
    pub(crate) fn hit(&mut self, entry: u64) -> Result<Duration> {
        let began = Instant::now();
        let answer = self.get(&path_of(entry))?;
        let took = began.elapsed();
        let (status, said) = (answer.status, answer.cache_status);
        ensure!(
            status == 200 && said.contains("; hit") && said.contains("detail=\"disk\""),
            "entry {entry} does not come from disk: {status}, Cache-Status: {said}"
        );
        ensure!(answer.body == body_of(entry), "entry {entry} is not what was written");
        Ok(took)
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Answer> {
        write!(self.0.get_mut(), "GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let Some(status) = status else { bail!("no answer for {path} but `{}`", line.trim_end()) };
        let (mut length, mut cache_status) = (0, String::new());
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse()?,
                "cache-status" => cache_status = value.to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(Answer { status, body, cache_status })
    }
}
