//! The request that fetches for others as well, and its client, who must not hold them up.
//!
//! The framework writes to that client in the task that also fills the cache. So the leader's reader takes a piece of the
//! fill only while the client has room for it ([`Room`]), and a write then takes the piece whole: [`PromptStream`] keeps
//! what the socket does not take, and under HTTP/2 a [`Leader`] keeps what the client's window has no room for.

use super::backlog::Patience;
use super::prompt::PromptStream;
use crate::store::adapter::FillHit;
use crate::store::fill::Room;
use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use h2::{Reason, SendStream};
use http::HeaderMap;
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::{Error, ErrorType, OrErr, Result};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as CustomSession;
use pingora::protocols::http::v2::server::HttpSession;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::proxy::Session;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Lets the fill that this request began, if it did, go on while its client takes its time. Called before the head of the
/// response is written.
pub(super) fn let_the_fill_run_ahead(session: &mut Session) {
    let limit = session.get_write_timeout().unwrap_or(Duration::MAX);
    let Session { downstream_session, cache, .. } = session;
    let reader = cache.miss_body_reader().and_then(|reader| reader.as_any_mut().downcast_mut::<FillHit>());
    let Some(reader) = reader else { return };
    let (fill, ahead) = (reader.fill().clone(), reader.fill().runs_ahead());
    if let Some(stream) = PromptStream::of(downstream_session) {
        fill.watch_leader(stream.left());
        reader.wait_for_room(stream.run_ahead(ahead, limit));
        return;
    }
    if !matches!(**downstream_session, ServerSession::H2(_)) {
        return;
    }
    let taken = std::mem::replace(&mut **downstream_session, ServerSession::Custom(Box::new(())));
    **downstream_session = match taken {
        ServerSession::H2(inner) => {
            let client = Arc::new(Client {
                sending: Mutex::new(Sending { stream: None, rest: Bytes::new(), patience: Patience::of(limit) }),
                ahead,
                left: Arc::default(),
            });
            fill.watch_leader(client.left.clone());
            reader.wait_for_room(client.clone());
            ServerSession::Custom(Box::new(Leader { inner, client, ended: false, sent: 0 }))
        }
        other => other,
    };
}

/// The client of a leader under HTTP/2.
struct Client {
    sending: Mutex<Sending>,
    /// True as long as nobody may wait for it.
    ahead: Arc<AtomicBool>,
    /// Set once it has left.
    left: Arc<AtomicBool>,
}

struct Sending {
    /// There once the head was sent.
    stream: Option<SendStream<Bytes>>,
    /// What the client's window had no room for yet of the piece that was written last.
    rest: Bytes,
    patience: Patience,
}

impl Sending {
    /// Hands the connection what is left of the last piece, as far as the client's window goes; ready when nothing is.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        while !self.rest.is_empty() {
            stream.reserve_capacity(self.rest.len());
            while stream.capacity() == 0 {
                match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(e)) => {
                        return Poll::Ready(Error::e_because(ErrorType::H2Error, "while waiting for a window", e));
                    }
                    None => return Poll::Ready(Error::e_explain(ErrorType::H2Error, "the client reset its stream")),
                }
            }
            let part = self.rest.split_to(self.rest.len().min(stream.capacity()));
            stream.send_data(part, false).or_err(ErrorType::WriteError, "while writing a body")?;
        }
        Poll::Ready(Ok(()))
    }

    /// The same, for as long as the client may take.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let sent = self.poll_drain(cx);
        let waited = self.patience.poll(if sent.is_ready() { Poll::Ready(()) } else { Poll::Pending }, cx);
        if self.patience.has_ended() {
            return Poll::Ready(Error::e_explain(ErrorType::WriteTimedout, "the client of a leader made no room"));
        }
        ready!(waited);
        sent
    }
}

impl Room for Client {
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        // What went wrong is found by the next write, for which there is room then.
        self.sending.lock().poll_sent(cx).map(drop)
    }

    fn poll_room_for_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_room(cx)
    }
}

impl Client {
    /// Writes a piece. It is waited for unless others depend on the fill.
    async fn send(&self, data: Bytes, end: bool) -> Result<()> {
        // There is room: nothing is left of the piece before.
        poll_fn(|cx| self.sending.lock().poll_sent(cx)).await?;
        self.sending.lock().rest = data;
        let ahead = self.ahead.load(Ordering::Relaxed) && !end;
        poll_fn(|cx| match self.sending.lock().poll_sent(cx) {
            Poll::Pending if ahead => Poll::Ready(Ok(())),
            sent => sent,
        })
        .await?;
        if !end {
            return Ok(());
        }
        match &mut self.sending.lock().stream {
            Some(stream) => stream.send_data(Bytes::new(), true).or_err(ErrorType::WriteError, "while ending a body"),
            None => Error::e_explain(ErrorType::H2Error, "a body before its head"),
        }
    }

    /// Ready, with an error, once the client has reset the stream or closed the connection.
    fn poll_gone<T>(&self, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let mut sending = self.sending.lock();
        // Asked between pieces, when the client may have made room for what is left of one. What goes wrong is seen below.
        let _ = sending.poll_drain(cx);
        let Some(stream) = &mut sending.stream else { return Poll::Pending };
        let gone = ready!(stream.poll_reset(cx));
        let reason = gone.map_or_else(|e| e.to_string(), |reason| reason.to_string());
        Poll::Ready(Error::e_explain(ErrorType::H2Error, format!("the client left: {reason}")))
    }

    /// Passes on how something went, and sees whether that means that the client has left.
    fn noting<T>(&self, went: Result<T>) -> Result<T> {
        if went.is_err() {
            self.left.store(true, Ordering::Relaxed);
        }
        went.map_err(|e| e.into_down())
    }
}

/// The framework's session of HTTP/2, with writes that do not wait for the client while others depend on the fill.
struct Leader {
    inner: HttpSession,
    client: Arc<Client>,
    ended: bool,
    sent: usize,
}

impl Leader {
    fn write_head(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        let went = self.inner.write_response_header(head, end);
        self.client.noting(went)?;
        self.ended |= end;
        if let Some(stream) = self.inner.take_response_body_writer() {
            self.client.sending.lock().stream = Some(stream);
        }
        Ok(())
    }

    fn reset(&mut self, reason: Reason) {
        if !std::mem::replace(&mut self.ended, true) {
            match &mut self.client.sending.lock().stream {
                Some(stream) => stream.send_reset(reason),
                None => self.inner.shutdown_with_reason(reason),
            }
        }
    }
}

#[async_trait]
impl CustomSession for Leader {
    fn req_header(&self) -> &RequestHeader {
        self.inner.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner.req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        let read = self.inner.read_body_bytes().await;
        self.client.noting(read)
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.inner.drain_request_body().await
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.write_head(head, end)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.write_head(Box::new(head.clone()), end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let length = data.len();
        let went = self.client.send(data, end).await;
        self.client.noting(went)?;
        self.sent += length;
        self.ended |= end;
        Ok(())
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let went = match &mut self.client.sending.lock().stream {
            Some(stream) => stream.send_trailers(trailers).or_err(ErrorType::WriteError, "while writing trailers"),
            None => Error::e_explain(ErrorType::H2Error, "trailers before their head"),
        };
        self.client.noting(went)?;
        self.ended = true;
        Ok(())
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut ended = false;
        for task in tasks {
            ended |= match task {
                HttpTask::Header(head, end) => {
                    self.write_head(head, end)?;
                    end
                }
                HttpTask::Body(data, end) => {
                    if let Some(data) = data.filter(|data| !data.is_empty()) {
                        self.write_body(data, end).await?;
                    }
                    end
                }
                HttpTask::Trailer(Some(trailers)) => {
                    self.write_trailers(*trailers).await?;
                    true
                }
                HttpTask::Trailer(None) | HttpTask::Done => true,
                HttpTask::Failed(e) => return Err(e),
                HttpTask::UpgradedBody(..) => {
                    return Error::e_explain(ErrorType::InternalError, "HTTP/2 has no upgrades");
                }
            };
        }
        if ended {
            self.finish().await?;
        }
        Ok(ended)
    }

    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {
        // As under HTTP/2: reading has none.
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner.request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner.response_written()
    }

    async fn shutdown(&mut self, code: u32, _ctx: &str) {
        self.reset(Reason::from(code));
    }

    async fn abandon(&mut self, _ctx: &str) {
        self.reset(Reason::INTERNAL_ERROR);
    }

    fn is_body_done(&mut self) -> bool {
        self.inner.is_body_done()
    }

    async fn finish(&mut self) -> Result<()> {
        // Before the head there is nothing to end: dropped, the stream is reset.
        if !self.ended && self.client.sending.lock().stream.is_some() {
            self.write_body(Bytes::new(), true).await?;
        }
        Ok(())
    }

    fn is_body_empty(&mut self) -> bool {
        self.inner.is_body_empty()
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        let begun = self.client.sending.lock().stream.is_some();
        let read = if begun && (no_body_expected || self.inner.is_body_done()) {
            poll_fn(|cx| self.client.poll_gone(cx)).await
        } else {
            self.inner.read_body_or_idle(no_body_expected).await
        };
        self.client.noting(read)
    }

    fn body_bytes_sent(&self) -> usize {
        self.sent
    }

    fn body_bytes_read(&self) -> usize {
        self.inner.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner.pseudo_raw_h1_request_header()
    }

    fn enable_retry_buffering(&mut self) {
        self.inner.enable_retry_buffering();
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.inner.retry_buffer_truncated()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.inner.get_retry_buffer()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
