//! The one place where something that went wrong becomes an HTTP response.

use super::Gate;
use super::context::Context;
use super::interim::is_interim;
use super::prompt::PromptStream;
use crate::decide;
use crate::outcome::{Account, Fault, Outcome, cache_status};
use bytes::Bytes;
use http::{Method, header};
use pingora::apps::HttpPersistentSettings;
use pingora::http::ResponseHeader;
use pingora::prelude::{Error, ErrorSource, ErrorType, Result};
use pingora::protocols::http::ServerSession;
use pingora::proxy::{FailToProxy, Session};

/// Which fault an error of the framework is.
pub fn of_error(error: &Error) -> Fault {
    // A fault that we raised ourselves travels as its status.
    if let (ErrorType::HTTPStatus(413), ErrorSource::Downstream) = (error.etype(), error.esource()) {
        return Fault::BodyTooLarge;
    }
    if let (ErrorType::InvalidHTTPHeader, ErrorSource::Downstream) = (error.etype(), error.esource()) {
        return Fault::BadHeader;
    }
    match error.esource() {
        ErrorSource::Downstream => Fault::ClientGone,
        ErrorSource::Upstream => match error.etype() {
            ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout => Fault::OriginTimeout,
            _ => Fault::OriginUnreachable,
        },
        ErrorSource::Internal | ErrorSource::Unset => Fault::Internal,
    }
}

impl Gate {
    /// Answers with a fault, and leaves the connection usable.
    pub(super) async fn answer_fault(&self, session: &mut Session, ctx: &mut Context, fault: Fault) -> Result<()> {
        ctx.fault = Some(fault);
        ctx.outcome = Some((Outcome::Error(fault), Account::default()));
        let unreadable = matches!(fault, Fault::BadHost | Fault::BadHeader | Fault::TransferCoding);
        if unreadable || matches!(fault, Fault::BodyTooLarge | Fault::HeaderTooLarge | Fault::UriTooLong) {
            // What follows on this connection is not worth reading.
            session.set_keepalive(None);
        }
        let body = problem(fault, ctx);
        let mut head = ResponseHeader::build_no_case(fault.status(), Some(10))?;
        head.insert_header(header::CONTENT_TYPE, "application/problem+json")?;
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
        head.insert_header(header::CACHE_CONTROL, "no-store")?;
        head.insert_header(header::DATE, crate::semantics::date::format(crate::clock::now()))?;
        head.insert_header("cache-status", cache_status(&Outcome::Error(fault), &Account::default()))?;
        head.insert_header("x-request-id", ctx.id.digits().as_slice())?;
        if matches!(fault, Fault::MethodNotAllowed | Fault::LastHop) {
            head.insert_header(header::ALLOW, allowed_methods(ctx))?;
        }
        if matches!(fault, Fault::TooManyWaiters | Fault::OriginFailing) {
            head.insert_header(header::RETRY_AFTER, 1)?;
        }
        let head_only = session.req_header().method == Method::HEAD;
        session.write_response_header(Box::new(head), head_only).await?;
        if !head_only {
            session.write_response_body(Some(body), true).await?;
        }
        Ok(())
    }

    /// Answers a request that failed on its way to or from the origin.
    pub(super) async fn answer_failure(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        let fault = ctx.fault.unwrap_or_else(|| of_error(error));
        ctx.fault = Some(fault);
        let begun = session.response_written().is_some_and(|response| !is_interim(response.status));
        if fault == Fault::ClientGone || begun {
            return FailToProxy { error_code: if begun { 0 } else { fault.status() }, can_reuse_downstream: false };
        }
        ctx.failure_answered = self.answer_fault(session, ctx, fault).await.is_ok();
        // An unread rest of a request body would be taken for the next request.
        let can_reuse_downstream = ctx.failure_answered && session.is_body_done() && fault != Fault::BodyTooLarge;
        FailToProxy { error_code: fault.status(), can_reuse_downstream }
    }

    /// Keeps the connection of a client that was answered although the origin failed: with an error of our own, or with
    /// something stale. The framework has promised to keep it, and closes it nevertheless.
    pub(super) async fn keep_connection(&self, session: &mut Session, failed: bool, ctx: &Context) {
        if !ctx.attempt_failed || (failed && !ctx.failure_answered) {
            return;
        }
        let Some(connection) = PromptStream::of(session).map(PromptStream::outlet) else { return };
        let settings = HttpPersistentSettings::for_session(session);
        let stand_in = ServerSession::new_http1(connection.stream());
        let ended = std::mem::replace(session.as_downstream_mut(), stand_in);
        // Sends what is left, reads the rest of the request's body, and says whether that went well.
        if let Ok(Some(reusable)) = ended.finish().await {
            let (_, ahead) = reusable.into_parts();
            let mut settings = settings;
            if let Some(ahead) = ahead {
                settings.set_pipelined_prefix(ahead);
            }
            connection.keep(settings);
        }
    }
}

fn allowed_methods(ctx: &Context) -> String {
    let usual = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let methods = ctx.site.as_ref().map(|site| match &site.bucket.methods {
        Some(methods) => methods.iter().map(Method::as_str).collect(),
        None => {
            let usual = usual.iter().filter(|method| decide::lets_through(&site.bucket, method));
            usual.map(Method::as_str).collect::<Vec<_>>()
        }
    });
    methods.unwrap_or_default().join(", ")
}

/// The body of an error (RFC 9457).
fn problem(fault: Fault, ctx: &Context) -> Bytes {
    let status = fault.status();
    let title = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let body = serde_json::json!({
        "type": "about:blank",
        "title": title.unwrap_or("Error"),
        "status": status,
        "detail": fault.detail(),
        "reason": fault.as_str(),
        "request_id": ctx.id.to_string(),
    });
    Bytes::from(body.to_string() + "\n")
}
