//! One command, watched by its client from the request to the deletion of its VM: `run` and `vm_exec`.

use std::sync::Arc;

use pyro_api::{
    ApiError, Cleanup, ClientMessage, ErrorCode, OUTPUT_LEN_MAX, Progress, Resume, RunOutcome, RunProgress,
    RunRequest, Stream, VmExecRequest, signal_name,
};
use pyro_core::{
    Command, DeleteReason, Envelope, Event, ExecExited, ExecNumber, ExecutionMode, ExitStatus, RequestId,
    Seq, WorkspaceId, WorkspaceSpec,
};
use pyro_store::outputs::Stream as StoredStream;
use tokio::sync::watch;

use super::environments::environment_name;
use super::{Failure, Session, error_of};
use crate::backend;
use crate::context::Context;
use crate::engine::Outcome;
use crate::follower::Follower;
use crate::streams::{LiveExec, LiveStream};
use crate::tethers::Tether;

/// Tries to draw an id that is not taken: with 48 random bits, one that fails three times is no accident.
const DRAWS_MAX: u32 = 3;

/// Least free space for a new guest, in MiB: its empty disk takes a few, and its first output wants some.
const FREE_MIB_MIN: u64 = 16;

impl Session {
    pub(super) async fn run_command(&mut self, request: RunRequest) -> Result<RunOutcome, Failure> {
        let name = environment_name(&request.environment)?;
        let request_id = request.request_id.unwrap_or_else(pyro_api::new_request_id);
        // A request that is known goes on, whatever has become of the environment.
        let known =
            self.context.engine.reader().request(request_id).is_ok_and(|envelopes| !envelopes.is_empty());
        if !known {
            if request.resume.is_some() {
                let message = "the command is lost: the event log does not know it any more";
                let hint = "it may have had effects; was PYRO_HOME replaced while it ran?";
                return Err(ApiError::new(ErrorCode::ExecLost, message).with_hint(hint).into());
            }
            self.check_early(&request)?;
            self.check_network(request.network)?;
            self.check_space()?;
        }
        self.peer
            .progress(Progress::Run(RunProgress::Create { environment: request.environment.clone() }))
            .await?;
        if !known {
            self.installed(&name).await?;
        }
        let spec = WorkspaceSpec {
            environment_version: version_of(&request.environment),
            environment: name,
            vcpu_count: request.vcpu_count,
            mem_mib: request.mem_mib,
            ttl_seconds: request.ttl_seconds,
            network: request.network,
            allow_host_compat: request.allow_host_compat,
        };
        let timeout_ms = request.timeout_seconds.saturating_mul(1000);
        let (workspace, first) = self.submit_run(&spec, &request.command, timeout_ms, request_id).await?;
        // The output files are open before the tether tells that they may go.
        let watched = Watch::new(&self.context, workspace, ExecNumber(1), first, request.resume);
        let tether = Tether::attach(&self.context, workspace);
        self.peer.progress(Progress::Run(RunProgress::Start { vm_id: workspace.to_string() })).await?;
        let ended = self.watch(watched).await;
        drop(tether);
        ended
    }

    /// Refuses before a long pull what would be refused after it.
    fn check_early(&self, request: &RunRequest) -> Result<(), Failure> {
        let spec = WorkspaceSpec {
            environment: environment_name(&request.environment)?,
            environment_version: String::new(),
            vcpu_count: request.vcpu_count,
            mem_mib: request.mem_mib,
            ttl_seconds: request.ttl_seconds,
            network: request.network,
            allow_host_compat: request.allow_host_compat,
        };
        let timeout_ms = request.timeout_seconds.saturating_mul(1000);
        let command =
            Command::Run { workspace: draw_id(), spec, command: request.command.clone(), timeout_ms };
        pyro_core::decide(&self.context.engine.state(), &command).map_err(ApiError::from)?;
        Ok(())
    }

    /// Refuses a network that no guest of this host could have.
    pub(super) fn check_network(&self, wanted: bool) -> Result<(), Failure> {
        let obstacle = wanted.then(|| backend::network_obstacle(&self.context)).flatten();
        obstacle.map_or(Ok(()), |reason| {
            let message = format!("a guest with a network must be a virtual machine: {reason}");
            Err(ApiError::new(ErrorCode::Unsupported, message).with_hint("`pyro doctor` tells more").into())
        })
    }

    /// Refuses a guest that would run out of disk while it boots.
    pub(super) fn check_space(&self) -> Result<(), Failure> {
        let root = self.context.home.root();
        let free_mib = match rustix::fs::statvfs(root) {
            Ok(space) => space.f_bavail.saturating_mul(space.f_frsize) / (1024 * 1024),
            Err(error) => {
                let message = format!("failed to ask for the free space of {}: {error}", root.display());
                return Err(ApiError::new(ErrorCode::StorageFailed, message).into());
            }
        };
        if free_mib < FREE_MIB_MIN {
            let message =
                format!("{} has {free_mib} MiB of free space, a guest needs {FREE_MIB_MIN}", root.display());
            let hint = "free some space there, or set PYRO_HOME to another file system";
            return Err(ApiError::new(ErrorCode::StorageFull, message).with_hint(hint).into());
        }
        Ok(())
    }

    async fn submit_run(
        &self,
        spec: &WorkspaceSpec,
        command: &str,
        timeout_ms: u64,
        request_id: RequestId,
    ) -> Result<(WorkspaceId, Seq), Failure> {
        let mut taken = 0;
        loop {
            let workspace = draw_id();
            let wish =
                Command::Run { workspace, spec: spec.clone(), command: command.to_owned(), timeout_ms };
            match self.context.engine.submit(wish, self.origin(Some(request_id))).await {
                Ok(outcome) => return run_of(&outcome, spec, command, timeout_ms),
                Err(crate::engine::Refusal::Rejected(pyro_core::Rejection::WorkspaceExists { .. }))
                    if taken < DRAWS_MAX =>
                {
                    taken += 1
                }
                Err(refusal) => return Err(error_of(refusal).into()),
            }
        }
    }

    pub(super) async fn vm_exec(&mut self, request: VmExecRequest) -> Result<RunOutcome, Failure> {
        let workspace = self.find_vm(&request.vm_id)?;
        let timeout_ms = request.timeout_seconds.saturating_mul(1000);
        let wish =
            Command::RequestExec { workspace, command: request.command.clone(), cwd: None, timeout_ms };
        let outcome = self.context.engine.submit(wish, self.origin(request.request_id)).await?;
        let requested = outcome.envelopes().iter().find_map(|envelope| match &envelope.event {
            Event::ExecRequested(event) if event.command == request.command => {
                Some((event.workspace, event.exec, envelope.seq))
            }
            _ => None,
        });
        let Some((workspace, exec, first)) = requested else { return Err(reused().into()) };
        let watched = Watch::new(&self.context, workspace, exec, first, request.resume);
        self.watch(watched).await
    }

    /// Streams output and progress until the VM is deleted.
    async fn watch(&mut self, mut watch: Watch) -> Result<RunOutcome, Failure> {
        loop {
            tokio::select! {
                biased;
                message = self.peer.next() => match message {
                    Some(Ok(ClientMessage::Cancel)) => watch.cancel().await,
                    Some(Ok(ClientMessage::Hello(_) | ClientMessage::Request(_))) => {}
                    Some(Err(error)) => return Err(Failure::Gone(error.into())),
                    None => return Err(Failure::Gone(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())),
                },
                () = watch.stdout.grown() => self.send_output(Stream::Stdout, &mut watch.stdout).await?,
                () = watch.stderr.grown() => self.send_output(Stream::Stderr, &mut watch.stderr).await?,
                envelope = watch.follower.next() => {
                    let envelope = envelope.map_err(|error| ApiError::new(ErrorCode::LogCorrupt, error))?;
                    let Some(envelope) = envelope else { return Err(error_of(crate::engine::Refusal::Stopping).into()) };
                    if let Some(progress) = watch.see(&envelope) {
                        self.peer.progress(progress).await?;
                    }
                    if let Event::WorkspaceDeleted(event) = &envelope.event && event.workspace == watch.workspace {
                        self.drain(&mut watch).await?;
                        // A session that came late has made the entry anew.
                        self.context.streams.forget_workspace(watch.workspace);
                        return watch.outcome(event.reason).map_err(Failure::Told);
                    }
                }
            }
        }
    }

    /// Sends what is left of the output, once the exec has ended.
    async fn drain(&mut self, watch: &mut Watch) -> Result<(), Failure> {
        while watch.stdout.has_more() {
            self.send_output(Stream::Stdout, &mut watch.stdout).await?;
        }
        while watch.stderr.has_more() {
            self.send_output(Stream::Stderr, &mut watch.stderr).await?;
        }
        Ok(())
    }

    async fn send_output(&mut self, stream: Stream, tail: &mut Tail) -> Result<(), Failure> {
        let bytes = tail.read().map_err(|error| ApiError::new(ErrorCode::StorageFailed, error))?;
        Ok(self.peer.output(stream, &bytes).await?)
    }
}

/// Returns the run that an accepted request led to, which may be that of an earlier try.
fn run_of(
    outcome: &Outcome,
    spec: &WorkspaceSpec,
    command: &str,
    timeout_ms: u64,
) -> Result<(WorkspaceId, Seq), Failure> {
    let mut envelopes = outcome.envelopes().iter();
    let created = envelopes.find_map(|envelope| match &envelope.event {
        Event::WorkspaceCreated(event) if asks_for(&event.spec, spec) => {
            Some((event.workspace, envelope.seq))
        }
        _ => None,
    });
    let same = envelopes.any(|envelope| {
        matches!(&envelope.event, Event::ExecRequested(event)
            if event.command == command && event.timeout_ms == timeout_ms)
    });
    created.filter(|_| same).ok_or_else(|| reused().into())
}

/// Tells whether two specifications come from the same request. The version is not asked for: the catalog has it.
fn asks_for(known: &WorkspaceSpec, wanted: &WorkspaceSpec) -> bool {
    WorkspaceSpec { environment_version: known.environment_version.clone(), ..wanted.clone() } == *known
}

fn reused() -> ApiError {
    ApiError::new(ErrorCode::RequestIdReused, "the request id was used before, for another request")
        .with_hint("draw a new request id for each new request")
}

/// Returns the signal that ended a command. The command is a child of a shell, which tells such an end as 128 and the
/// signal's number.
const fn signal_of(status: ExitStatus) -> Option<u8> {
    const SIGNALS_END: u8 = 32;
    match status {
        ExitStatus::Signal(number) => Some(number),
        ExitStatus::Code(code) if code > 128 && code < 128 + SIGNALS_END => Some(code - 128),
        ExitStatus::Code(_) | ExitStatus::TimedOut => None,
    }
}

fn version_of(environment: &str) -> String {
    pyro_core::CATALOG
        .iter()
        .find(|entry| entry.name == environment)
        .map_or_else(String::new, |entry| entry.version.to_owned())
}

pub(super) fn draw_id() -> WorkspaceId {
    let [a, b, c, d, e, f, ..] = *uuid::Uuid::new_v4().as_bytes();
    WorkspaceId::from_bytes([a, b, c, d, e, f])
}

/// What a session knows of the exec that it watches.
struct Watch {
    context: Arc<Context>,
    workspace: WorkspaceId,
    exec: ExecNumber,
    follower: Follower,
    stdout: Tail,
    stderr: Tail,
    environment: Option<(String, String)>,
    command: String,
    execution_mode: ExecutionMode,
    end: Option<End>,
    boot_failure: Option<String>,
}

enum End {
    Exited(ExecExited),
    Failed(String),
    Lost(String),
}

impl Watch {
    fn new(
        context: &Arc<Context>,
        workspace: WorkspaceId,
        exec: ExecNumber,
        first: Seq,
        resume: Option<Resume>,
    ) -> Self {
        let live = context.streams.of(workspace, exec);
        catch_up(context, workspace, exec, &live);
        let Resume { stdout_offset, stderr_offset } = resume.unwrap_or_default();
        let state = context.engine.state();
        let known = state.workspace(workspace);
        let environment =
            known.map(|known| (known.spec.environment.to_string(), known.spec.environment_version.clone()));
        let guest = known.and_then(|known| known.guest.as_ref());
        Self {
            context: Arc::clone(context),
            workspace,
            exec,
            follower: context.engine.follow(first),
            stdout: Tail::new(&live, |live| &live.stdout, stdout_offset),
            stderr: Tail::new(&live, |live| &live.stderr, stderr_offset),
            environment,
            command: String::new(),
            execution_mode: guest.map_or(ExecutionMode::Pending, |guest| guest.backend.execution_mode()),
            end: None,
            boot_failure: None,
        }
    }

    /// Takes note of an event and returns what to tell the client.
    fn see(&mut self, envelope: &Envelope) -> Option<Progress> {
        if envelope.event.workspace() != Some(self.workspace) {
            return None;
        }
        match &envelope.event {
            Event::WorkspaceCreated(event) => {
                self.environment =
                    Some((event.spec.environment.to_string(), event.spec.environment_version.clone()));
            }
            Event::WorkspaceStarted(event) => {
                self.execution_mode = event.backend.execution_mode();
                return Some(Progress::Run(RunProgress::Execute { vm_id: self.workspace.to_string() }));
            }
            Event::WorkspaceStartFailed(event) => self.boot_failure = Some(event.reason.clone()),
            Event::ExecRequested(event) if event.exec == self.exec => self.command.clone_from(&event.command),
            Event::ExecExited(event) if event.exec == self.exec => {
                self.end = Some(End::Exited(event.clone()))
            }
            Event::ExecFailed(event) if event.exec == self.exec => {
                self.end = Some(End::Failed(event.reason.clone()))
            }
            Event::ExecLost(event) if event.exec == self.exec => {
                self.end = Some(End::Lost(event.reason.clone()))
            }
            _ => {}
        }
        None
    }

    /// The client does not want to wait any longer: its VM goes, which ends the command.
    async fn cancel(&self) {
        let wish = Command::DeleteWorkspace { workspace: self.workspace, reason: DeleteReason::ClientGone };
        self.context.record_quietly(wish).await;
    }

    /// Returns how the command ended, or what ended its VM before.
    fn outcome(self, reason: DeleteReason) -> Result<RunOutcome, ApiError> {
        let exited = match (self.end, reason) {
            (_, DeleteReason::ClientGone) => {
                return Err(ApiError::new(ErrorCode::Canceled, "canceled; the VM is deleted"));
            }
            (_, DeleteReason::Expired) => {
                let message = "the time to live was over before the command ended; the VM is deleted";
                let hint = "a longer --ttl-seconds gives it more time, 0 sets no end";
                return Err(ApiError::new(ErrorCode::Expired, message).with_hint(hint));
            }
            (Some(End::Exited(exited)), _) => exited,
            (Some(End::Failed(reason)), _) => {
                let (code, reason) = match self.boot_failure {
                    Some(reason) => (ErrorCode::GuestUnavailable, reason),
                    None => (ErrorCode::ExecFailed, reason),
                };
                return Err(ApiError::new(code, reason));
            }
            (Some(End::Lost(reason)), _) => {
                let error = ApiError::new(ErrorCode::ExecLost, format!("the command is lost: {reason}"));
                return Err(
                    error.with_hint("`pyro log` shows what was seen; the command may have had effects")
                );
            }
            (None, _) => {
                let message = "the VM is gone without a word about its command";
                return Err(ApiError::new(ErrorCode::Internal, message));
            }
        };
        let vm_id = self.workspace.to_string();
        let (environment, version) = self.environment.unwrap_or_default();
        Ok(RunOutcome {
            environment,
            environment_version: Some(version),
            command: self.command,
            exit_code: exited.status.exit_code(),
            signal: signal_of(exited.status).map(signal_name),
            timed_out: exited.status == ExitStatus::TimedOut,
            duration_ms: exited.duration_ms,
            execution_mode: self.execution_mode.as_str().to_owned(),
            cleanup: Cleanup { vm_id: vm_id.clone(), deleted: true, reason: reason.as_str().to_owned() },
            vm_id,
            stdout_bytes: exited.stdout.len_bytes,
            stderr_bytes: exited.stderr.len_bytes,
        })
    }
}

/// Shows what an earlier daemon stored of the output. Nobody else would, once the exec has ended.
fn catch_up(context: &Context, workspace: WorkspaceId, exec: ExecNumber, live: &LiveExec) {
    for (stream, live) in [(StoredStream::Stdout, &live.stdout), (StoredStream::Stderr, &live.stderr)] {
        let opened =
            context.outputs.read(workspace, exec, stream).and_then(|file| Ok((file.len_bytes()?, file)));
        match opened {
            Ok((0, _)) => {}
            Ok((len, file)) => {
                live.set_file(file);
                live.grow_to(len);
            }
            Err(error) => tracing::warn!(%workspace, %exec, %error, "stored output cannot be read"),
        }
    }
}

/// The end of an output file, as far as this session has sent it.
struct Tail {
    live: Arc<LiveExec>,
    pick: fn(&LiveExec) -> &LiveStream,
    len: watch::Receiver<u64>,
    sent: u64,
    buffer: Vec<u8>,
}

impl Tail {
    fn new(live: &Arc<LiveExec>, pick: fn(&LiveExec) -> &LiveStream, sent: u64) -> Self {
        let len = pick(live).watch();
        Self { live: Arc::clone(live), pick, len, sent, buffer: Vec::new() }
    }

    fn has_more(&self) -> bool {
        *self.len.borrow() > self.sent
    }

    /// Returns when there is something to send. Cancel safe.
    async fn grown(&mut self) {
        let sent = self.sent;
        if self.len.wait_for(|len| *len > sent).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns the next piece; an empty one when there is none.
    fn read(&mut self) -> Result<Vec<u8>, pyro_store::outputs::OutputError> {
        let Some(file) = (self.pick)(&self.live).file() else { return Ok(Vec::new()) };
        self.buffer.resize(OUTPUT_LEN_MAX, 0);
        let read = file.read_at(&mut self.buffer, self.sent)?;
        self.sent += read as u64;
        Ok(self.buffer[..read].to_vec())
    }
}
