//! The thread that carries a request out.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use pyro_api::{
    ApiError, Attachment, CallError, CancelToken, CapturedOutput, ClientInfo, ErrorCode, Events, ExecResult,
    Followed, History, Home, Incoming, Keyboard, Link, LogRequest, NextEvent, Operation as _, Request,
    Response, Run, RunEvent, RunResult, ShellEvent, ShellFollowRequest, Start, Stream, TransportError,
    WorkspaceLogsRequest, resolve_host_path,
};
use serde::Serialize;
use serde_json::Value;

use crate::news::{Interest, News};
use crate::stopper::Stopper;

/// The way to the daemon.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) home: Home,
    pub(crate) info: ClientInfo,
    pub(crate) start: Start,
}

/// One request on its way.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) way: Way,
    pub(crate) stopper: Stopper,
    pub(crate) interest: Interest,
    pub(crate) teller: Teller,
}

/// The way back to the call.
#[derive(Debug)]
pub(crate) struct Teller {
    pub(crate) news: SyncSender<News>,
    /// Can be read when there are news; `None` when nobody waits that way.
    pub(crate) bell: Option<Arc<OwnedFd>>,
}

impl Teller {
    fn send(&self, news: News) {
        if self.news.send(news).is_err() {
            // Nobody wants to know any more, and whoever dropped the call has asked for its end.
            return;
        }
        if let Some(bell) = &self.bell {
            // It fails only when it was rung 2^64 times without an answer. Any number but 0 will do.
            let _rung = rustix::io::write(bell, &[1; 8]);
        }
    }
}

impl Worker {
    /// Carries the request out. The last of the news is its end.
    pub(crate) fn work(self, request: Request) {
        let end = match self.stopper.clone() {
            Stopper::Cancel(cancel) => self.perform(request, &cancel),
            Stopper::Leave(keyboard) => self.follow_shell(request, &keyboard),
        };
        // Whoever knows of the end finds the connection closed.
        drop(self.stopper);
        self.teller.send(News::Ended(end.map_err(ApiError::from)));
    }

    fn perform(&self, mut request: Request, cancel: &CancelToken) -> Result<Value, CallError> {
        request.identify();
        match request {
            Request::Run(request) => self.follow(request, cancel, RunResult::new),
            Request::VmExec(request) => self.follow(request, cancel, RunResult::new),
            Request::WorkspaceExec(request) => self.follow(request, cancel, ExecResult::new),
            Request::WorkspaceLogs(request) => self.history(&request, cancel),
            Request::Log(request) => self.events(request, cancel),
            Request::WorkspaceCreate(mut request) => {
                request.seed_path = request.seed_path.as_deref().map(resolve).transpose()?;
                self.ask(&request.into(), cancel)
            }
            Request::WorkspaceSyncPush(mut request) => {
                request.source_path = resolve(&request.source_path)?;
                self.ask(&request.into(), cancel)
            }
            request => self.ask(&request, cancel),
        }
    }

    fn ask(&self, request: &Request, cancel: &CancelToken) -> Result<Value, CallError> {
        let response = self.link().call(request, cancel, |incoming| match incoming {
            Incoming::Progress(progress) => self.tell(News::Progress(progress)),
            Incoming::Output(..) | Incoming::Event(_) | Incoming::Reply(_) => {}
        })?;
        value_of(&response)
    }

    fn follow<Asked, Outcome>(
        &self,
        request: Asked,
        cancel: &CancelToken,
        result: impl FnOnce(Asked::Response, CapturedOutput) -> Outcome,
    ) -> Result<Value, CallError>
    where
        Asked: Followed,
        Outcome: Serialize,
    {
        let Way { home, info, start } = &self.way;
        let mut run = Run::start(home, info, start, request, cancel)?;
        let mut output = CapturedOutput::new();
        loop {
            match run.next_event()? {
                RunEvent::Progress(progress) => self.tell(News::Progress(progress)),
                RunEvent::Output(stream, bytes) => {
                    output.push(stream, &bytes);
                    self.tell(News::Output(stream, bytes));
                }
                RunEvent::Gap(stream, len_bytes) => {
                    output.skip(stream, len_bytes);
                    self.tell(News::Gap(stream, len_bytes));
                }
                RunEvent::Ended(outcome) => return Ok(json(&result(outcome, output))),
            }
        }
    }

    fn history(&self, request: &WorkspaceLogsRequest, cancel: &CancelToken) -> Result<Value, CallError> {
        let mut history = History::new();
        let end = self.link().call(request, cancel, |incoming| history.push(incoming))?;
        Ok(json(&history.finish(end)))
    }

    fn events(&self, request: LogRequest, cancel: &CancelToken) -> Result<Value, CallError> {
        let Way { home, info, start } = &self.way;
        let mut events = Events::start(home, info, start, request, cancel)?;
        loop {
            match events.next_event()? {
                NextEvent::Event(event) => self.tell(News::Event(*event)),
                NextEvent::CaughtUp => {}
                NextEvent::End => return Ok(Value::Null),
            }
        }
    }

    fn follow_shell(&self, request: Request, keyboard: &Keyboard) -> Result<Value, CallError> {
        let Request::ShellFollow(request) = request else {
            return Err(TransportError::Unexpected { what: "a keyboard without a shell" }.into());
        };
        let mut shell = Attachment::follow(self.link(), request, keyboard)?;
        loop {
            match shell.next_event()? {
                ShellEvent::Joined { .. } => {}
                ShellEvent::Output(bytes) => self.tell(News::Output(Stream::Stdout, bytes)),
                ShellEvent::Gap(len_bytes) => self.tell(News::Gap(Stream::Stdout, len_bytes)),
                ShellEvent::Ended(end) => return Ok(json(&end)),
            }
        }
    }

    fn link(&self) -> Link {
        Link::new(&self.way.home, &self.way.info, &self.way.start)
    }

    fn tell(&self, news: News) {
        match self.interest {
            Interest::All => self.teller.send(news),
            Interest::EndOnly => {}
        }
    }
}

/// Tells by which way a request is ended.
pub(crate) fn is_shell_follow(request: &Request) -> bool {
    matches!(request, Request::ShellFollow(ShellFollowRequest { .. }))
}

fn resolve(path: &str) -> Result<String, CallError> {
    resolve_host_path(path).map_err(CallError::Failed)
}

/// Returns the answer without the name of its operation.
fn value_of(response: &Response) -> Result<Value, CallError> {
    match json(response) {
        Value::Object(members) => members.into_iter().next().map(|(_, value)| value),
        _ => None,
    }
    .ok_or_else(|| CallError::Failed(ApiError::new(ErrorCode::Internal, "an answer without a name")))
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("the types of the contract have only string keys")
}
