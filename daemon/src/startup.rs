//! From nothing to a daemon that can serve.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use pyro_api::{ApiError, ErrorCode, Home, HomeError};
use pyro_core::{Action, Command, DaemonStarted, Seq, State};
use pyro_runtime::environment::Environments;
use pyro_runtime::host::Tools;
use pyro_runtime::process::ProcessRef;
use pyro_store::outputs::{OutputError, Outputs};
use pyro_store::{BaseInfo, EventLog, OpenError, Options, ReadError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::backend;
use crate::clock::Clock;
use crate::compaction;
use crate::config::{Config, ConfigError};
use crate::context::Context;
use crate::engine::{Engine, Refusal};
use crate::live_files::LiveFiles;
use crate::mounts::Mounts;
use crate::openings::Openings;
use crate::programs::Programs;
use crate::retention::{self, Retention};
use crate::streams::Streams;
use crate::sync::LiveSyncs;
use crate::tethers::Tethers;

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartupError {
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{}", crate::sessions::chain(.0))]
    Log(#[from] OpenError),
    #[error(
        "the base of the log before event {first} is not the one that was signed off when the log was compacted"
    )]
    Base { first: Seq },
    #[error("failed to replay the event log: {0}")]
    Replay(#[from] ReadError),
    #[error("{}", crate::sessions::chain(.0))]
    Outputs(#[from] OutputError),
    #[error("failed to record the start: {0}")]
    Record(#[from] Refusal),
    #[error("failed to start threads: {0}")]
    Runtime(io::Error),
    #[error("failed to open the socket: {0}")]
    Io(#[from] io::Error),
}

impl From<&StartupError> for ApiError {
    fn from(error: &StartupError) -> Self {
        let code = match error {
            StartupError::Home(_) => ErrorCode::HomeUnusable,
            StartupError::Config(_) => ErrorCode::InvalidConfig,
            StartupError::Log(OpenError::Locked { .. }) => ErrorCode::DaemonRunning,
            StartupError::Log(OpenError::Corrupt(_))
            | StartupError::Base { .. }
            | StartupError::Replay(_) => ErrorCode::LogCorrupt,
            StartupError::Log(OpenError::StorageFull { .. })
            | StartupError::Outputs(OutputError::StorageFull { .. }) => ErrorCode::StorageFull,
            StartupError::Log(OpenError::Io { .. }) | StartupError::Outputs(_) => ErrorCode::StorageFailed,
            StartupError::Record(Refusal::Append(error))
                if matches!(**error, pyro_store::AppendError::StorageFull) =>
            {
                ErrorCode::StorageFull
            }
            StartupError::Record(_) => ErrorCode::StorageFailed,
            StartupError::Runtime(_) | StartupError::Io(_) => ErrorCode::DaemonUnavailable,
        };
        let message = match error {
            StartupError::Log(OpenError::Locked { pid }) => {
                format!("a daemon is already running as pid {pid}")
            }
            error => error.to_string(),
        };
        let told = Self::new(code, message);
        match code {
            ErrorCode::LogCorrupt => told.with_hint("`pyro log verify` tells more; `pyro log repair` takes everything from the first bad event on out of the log"),
            ErrorCode::DaemonRunning => {
                told.with_hint("other commands use it by themselves; `pyro daemon stop` ends it, and guests go on")
            }
            ErrorCode::StorageFull => told.with_hint("free some space in PYRO_HOME and try again"),
            ErrorCode::StorageFailed => {
                told.with_hint("the disk of PYRO_HOME cannot be read or written; the next command tries again")
            }
            _ => told,
        }
    }
}

/// A daemon that has replayed its log and recorded its start.
pub(crate) struct Started {
    pub(crate) context: Arc<Context>,
    pub(crate) actions: mpsc::UnboundedReceiver<Action>,
    /// The state as an earlier daemon left it. What is open in it is not for an action to come.
    pub(crate) inherited: Arc<State>,
}

pub(crate) async fn start(home: Home) -> Result<Started, StartupError> {
    home.create()?;
    let config = Config::load(&home.config())?;
    let log = EventLog::open(home.log(), Options::default())?;
    let recovered = log.recovered();
    if recovered.torn_len > 0 || recovered.index_rebuilt {
        tracing::info!(?recovered, "recovered the event log");
    }
    let clock = Clock::of_host()?;
    let host_boot_id = clock.host_boot_id().to_owned();
    let (engine, actions) = Engine::start(log, clock)?;
    let inherited = engine.state();
    check_base(&inherited, engine.reader().base())?;
    let host_rebooted = inherited.daemon.as_ref().is_some_and(|daemon| daemon.host_boot_id != host_boot_id);
    let context = Arc::new(Context {
        engine,
        outputs: Outputs::open(home.outputs())?,
        retention: Retention::new(&config.retention),
        environments: Environments::new(home.environments()),
        config,
        home,
        streams: Streams::default(),
        syncs: LiveSyncs::default(),
        tethers: Tethers::default(),
        mounts: Mounts::default(),
        live_files: Arc::new(LiveFiles::new(tokio::runtime::Handle::current())),
        openings: Openings::default(),
        programs: Programs::find()?,
        tools: Tools::of_host(),
        host_rebooted,
        probing: tokio::sync::Mutex::new(()),
        compacting: tokio::sync::Mutex::new(()),
        stopping: CancellationToken::new(),
        stop_requested: AtomicBool::new(false),
        started_at: Instant::now(),
        clients: AtomicU64::new(0),
    });
    let started = DaemonStarted {
        process: ProcessRef::own()?.process(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host_boot_id,
    };
    context.record(Command::RecordDaemonStarted(started)).await?;
    sign_off_base(&context).await?;
    context.record(Command::RecordLimits(context.config.limits(host_mem_mib()))).await?;
    backend::sweep(&context).await?;
    retention::drop_again(&context);
    Ok(Started { context, actions, inherited })
}

/// Signs off the base of a log whose event about it was cut off by a repair.
async fn sign_off_base(context: &Context) -> Result<(), Refusal> {
    let known = context.engine.state().compacted.as_ref().map(|known| known.first);
    match context.engine.reader().base() {
        Some(base) if known != Some(base.first) => {
            context.record(compaction::signature(base)).await.map(drop)
        }
        Some(_) | None => Ok(()),
    }
}

/// Refuses a base that is not the one of which the events tell.
fn check_base(state: &State, base: Option<BaseInfo>) -> Result<(), StartupError> {
    match (base, &state.compacted) {
        (Some(base), Some(known)) if base.first == known.first && base.digest != known.base => {
            Err(StartupError::Base { first: base.first })
        }
        (Some(_), Some(_) | None) | (None, _) => Ok(()),
    }
}

fn host_mem_mib() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram as u64 * u64::from(info.mem_unit) / (1024 * 1024)
}

/// Most descriptors that the daemon has at once: enough for a thousand clients and as many followers of files several times
/// over. Some programs that it starts go through all that they may have.
const DESCRIPTORS_MAX: u64 = 65_536;

/// Takes as many descriptors as the host lets it: what a login gives by default is less than the followers of one command
/// may need.
pub(crate) fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(DESCRIPTORS_MAX, |most| most.min(DESCRIPTORS_MAX));
    if limit.current.is_some_and(|current| current < most)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit })
    {
        tracing::warn!(%error, "the number of descriptors stays limited");
    }
}

/// What is written without `PYRO_LOG`. `notify` tells of each removed directory that it need not be watched any more.
const FILTER: &str = "info,notify=warn";

/// Writes what the daemon has to say to standard error, which is the daemon's log file. `PYRO_LOG` sets the level.
pub(crate) fn init_tracing() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PYRO_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(FILTER));
    // A second subscriber in the same process is refused: the first one goes on.
    let _first_goes_on =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(io::stderr).try_init();
}

#[cfg(test)]
mod tests {
    use pyro_core::{Cause, Event};
    use pyro_store::{Draft, Retention};

    use super::*;
    use crate::context::daemon_actor;

    /// Catches a daemon that goes on from a base which is not the one of which the events tell, or refuses one that is.
    #[test]
    fn a_base_is_the_one_that_was_signed_off() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::open(dir.path(), Options::default()).unwrap();
        let append = |command| {
            let Command::CompactLog(event) = command else { panic!("another command") };
            let (at, cause, event) =
                (pyro_core::Timestamp(1), Cause::Observation, Event::LogCompacted(event));
            log.append(vec![Draft { at, actor: daemon_actor(), cause, event }]).unwrap();
        };
        let stopped = Event::DaemonStopped(pyro_core::DaemonStopped { reason: "test".to_owned() });
        let (at, cause) = (pyro_core::Timestamp(1), Cause::Observation);
        log.append(vec![Draft { at, actor: daemon_actor(), cause, event: stopped }]).unwrap();
        assert!(check_base(&State::default(), log.reader().base()).is_ok());
        let compactor = log.compactor();
        compactor.roll().unwrap();
        let policy = Retention { before: Some(Seq(2)), ..Retention::default() };
        let written = compactor.plan(policy).unwrap().unwrap().write().unwrap();
        append(compaction::signature(written.info()));
        written.finish().unwrap();

        let reader = log.reader();
        let mut state = reader.beginning();
        reader.read(reader.first()).for_each(|envelope| pyro_core::evolve(&mut state, &envelope.unwrap()));
        let base = reader.base().unwrap();
        assert!(check_base(&state, Some(base)).is_ok());
        assert!(check_base(&State::default(), Some(base)).is_ok(), "a repair has cut off the event");
        let other = BaseInfo { digest: [7; 32], ..base };
        assert!(matches!(check_base(&state, Some(other)), Err(StartupError::Base { first: Seq(2) })));
    }
}
