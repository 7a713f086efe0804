//! The access log: one JSON object a line, written by a thread of its own so that no request waits for a disk.

use crate::config::AccessLog as Target;
use crate::telemetry::metrics;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// One request.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names are the log's own fields, described in the reference")]
pub struct Record<'a> {
    pub time: f64,
    pub id: String,
    pub bucket: Option<&'a str>,
    pub client: Option<std::net::IpAddr>,
    pub method: &'a str,
    pub scheme: &'a str,
    pub host: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub status: u16,
    pub bytes: u64,
    pub outcome: &'a str,
    pub reason: std::borrow::Cow<'a, str>,
    pub tier: Option<&'a str>,
    pub ttl: Option<i64>,
    pub age: Option<u64>,
    pub key: Option<String>,
    pub policy: Option<&'a str>,
    pub version: Option<&'a str>,
    pub origin_micros: Option<u64>,
    pub total_micros: u64,
    /// Header fields that the policy read, with their values.
    pub inputs: serde_json::Map<String, serde_json::Value>,
}

/// Lines that may wait for the disk.
const QUEUE: usize = 16 * 1024;

enum Message {
    Line(Vec<u8>),
    Reopen,
    Flush(SyncSender<()>),
}

/// Takes records.
#[derive(Debug, Clone)]
pub struct AccessLog {
    lines: SyncSender<Message>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Message::Line(_) => "line",
            Message::Reopen => "reopen",
            Message::Flush(_) => "flush",
        })
    }
}

impl AccessLog {
    /// Starts the log. `None` if it is off.
    pub fn start(target: &Target) -> io::Result<Option<Self>> {
        let target = target.clone();
        let out: Box<dyn Write + Send> = match &target {
            Target::Off => return Ok(None),
            Target::Stdout => Box::new(io::stdout()),
            Target::File(path) => Box::new(open(path)?),
        };
        let (lines, received) = sync_channel(QUEUE);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write_all(&received, out, &target))?;
        Ok(Some(AccessLog { lines }))
    }

    /// Writes a record, or counts it as dropped if the disk cannot keep up.
    pub fn write(&self, record: &Record<'_>) {
        let Ok(mut line) = serde_json::to_vec(record) else { return };
        line.push(b'\n');
        match self.lines.try_send(Message::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => metrics().access_log_dropped.inc(),
        }
    }

    /// Opens the file again, after it was rotated.
    pub fn reopen(&self) {
        let _ = self.lines.send(Message::Reopen);
    }
}

impl AccessLog {
    /// Returns once everything written so far is in the file.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.lines.send(Message::Flush(done)).is_ok() {
            let _ = written.recv();
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|e| io::Error::new(e.kind(), format!("{}: the access log cannot be opened: {e}", path.display())))
}

fn write_all(received: &Receiver<Message>, out: Box<dyn Write + Send>, target: &Target) {
    let mut out = BufWriter::new(out);
    while let Ok(first) = received.recv() {
        // Everything that waits goes out in one piece; then readers of the log see whole lines at once.
        for message in std::iter::once(first).chain(received.try_iter()) {
            match message {
                Message::Line(line) => {
                    if out.write_all(&line).is_err() {
                        metrics().access_log_dropped.inc();
                    }
                }
                Message::Flush(done) => {
                    let _ = out.flush();
                    let _ = done.send(());
                }
                Message::Reopen => {
                    let _ = out.flush();
                    if let Target::File(path) = target {
                        match open(path) {
                            Ok(file) => out = BufWriter::new(Box::new(file)),
                            Err(e) => tracing::error!(error = %e, "the access log goes on in the old file"),
                        }
                    }
                }
            }
        }
        if let Err(e) = out.flush() {
            tracing::error!(error = %e, "the access log could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn record(path: &str) -> Record<'_> {
        Record {
            time: 1.5,
            id: "0123456789abcdef".to_owned(),
            bucket: Some("media"),
            client: None,
            method: "GET",
            scheme: "http",
            host: "img.test",
            path,
            query: "",
            status: 200,
            bytes: 3,
            outcome: "hit",
            reason: "".into(),
            tier: Some("memory"),
            ttl: Some(-1),
            age: None,
            key: None,
            policy: None,
            version: None,
            origin_micros: None,
            total_micros: 7,
            inputs: serde_json::Map::new(),
        }
    }

    fn paths(file: &Path) -> Vec<String> {
        let text = fs::read_to_string(file).unwrap();
        let line =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["path"].as_str().map(str::to_owned);
        text.lines().filter_map(line).collect()
    }

    #[test]
    fn one_object_a_line_with_the_fields_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("access.log");
        let log = AccessLog::start(&Target::File(file.clone())).unwrap().unwrap();
        log.write(&record("/line\nbreak"));
        log.flush();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with(r#"{"time":1.5,"id":"0123456789abcdef","bucket":"media","client":null,"#), "{text}");
        assert_eq!(paths(&file), ["/line\nbreak"]);
    }

    #[test]
    fn a_rotated_file_is_left_behind_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (file, rotated) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let log = AccessLog::start(&Target::File(file.clone())).unwrap().unwrap();
        log.write(&record("/before"));
        log.flush();
        fs::rename(&file, &rotated).unwrap();
        log.write(&record("/between"));
        log.reopen();
        log.write(&record("/after"));
        log.flush();
        assert_eq!((paths(&rotated), paths(&file)), (vec!["/before".into(), "/between".into()], vec!["/after".into()]));
    }

    #[test]
    fn an_existing_file_is_appended_to_and_an_impossible_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("access.log");
        for path in ["/one", "/two"] {
            let log = AccessLog::start(&Target::File(file.clone())).unwrap().unwrap();
            log.write(&record(path));
            log.flush();
        }
        assert_eq!(paths(&file), ["/one", "/two"]);
        let nowhere = dir.path().join("nowhere/access.log");
        let error = AccessLog::start(&Target::File(nowhere.clone())).unwrap_err();
        assert!(error.to_string().contains(&nowhere.display().to_string()), "{error}");
    }

    #[test]
    fn an_access_log_that_is_off_is_none() {
        assert!(AccessLog::start(&Target::Off).unwrap().is_none());
    }
}
