//! `pyro log`.

use pyro_api::{ApiError, ClientMessage, ErrorCode, EventActor, LogEnd, LogEvent, LogRequest};
use pyro_core::{Envelope, Seq};
use pyro_store::ReadError;

use super::{Failure, Session};
use crate::{clock, describe};

impl Session {
    pub(super) async fn log(&mut self, request: LogRequest) -> Result<LogEnd, Failure> {
        let mut follower = self.context.engine.follow(Seq(request.since.unwrap_or(1).max(1)));
        while let Some(envelope) = follower.next_written().await.map_err(unreadable)? {
            self.peer.event(log_event(&envelope)).await?;
        }
        if request.follow {
            loop {
                tokio::select! {
                    envelope = follower.next() => match envelope.map_err(unreadable)? {
                        Some(envelope) => self.peer.event(log_event(&envelope)).await?,
                        None => break,
                    },
                    message = self.peer.next() => match message {
                        Some(Ok(
                            ClientMessage::Hello(_)
                            | ClientMessage::Request(_)
                            | ClientMessage::Input(_)
                            | ClientMessage::Resize(_),
                        )) => {}
                        Some(Ok(ClientMessage::Cancel) | Err(_)) | None => break,
                    },
                    () = self.context.stopping.cancelled() => break,
                }
            }
        }
        Ok(LogEnd { head_seq: self.context.engine.reader().head().seq.0 })
    }
}

fn unreadable(error: ReadError) -> Failure {
    let hint = "the log in PYRO_HOME is damaged or cannot be read";
    Failure::Told(ApiError::new(ErrorCode::LogCorrupt, error).with_hint(hint))
}

fn log_event(envelope: &Envelope) -> LogEvent {
    let actor = envelope.actor.clone();
    LogEvent {
        seq: envelope.seq.0,
        at: clock::rfc3339(envelope.at),
        actor: EventActor { face: actor.face, uid: actor.uid, pid: actor.pid, client: actor.client },
        kind: envelope.event.kind().to_owned(),
        workspace_id: envelope.event.workspace().map(|id| id.to_string()),
        request_id: describe::request_id(envelope),
        data: describe::data(&envelope.event),
    }
}
