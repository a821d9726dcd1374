//! What every test needs: a place for a sandbox, and commands in it.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyro_core::{ExitStatus, WorkspaceId};
use pyro_protocol::Stream;
use pyro_runtime::environment::Environments;
use pyro_runtime::guest::{ExecSpec, Guest, Observation};
use pyro_runtime::host::Tools;
use pyro_runtime::sandbox::{SandboxSpec, boot, destroy};

/// Whose sandboxes they are.
pub(crate) const WORKSPACE: WorkspaceId = WorkspaceId::from_bytes([0xab, 0xcd, 0xef, 1, 2, 3]);

/// Longest time that anything in a test takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Names a root file system that is to be used in place of the environment's.
pub(crate) const ROOTFS: &str = "PYRO_TEST_ROOTFS";

/// Names the program in `init.rs` where that is not where it was built.
pub(crate) const PROGRAM: &str = "PYRO_TEST_SANDBOX_INIT";

/// Names the guest agent.
pub(crate) const AGENT: &str = "PYRO_TEST_AGENT";

/// A directory for one sandbox. When it is dropped, the sandbox ends and the directory goes, also after a panic.
pub(crate) struct Place {
    home: tempfile::TempDir,
    pub(crate) spec: SandboxSpec,
}

impl Place {
    /// Returns a fresh place; `None` where the tests cannot run.
    pub(crate) fn new() -> Option<Self> {
        let (Some(rootfs), Some(agent)) = (rootfs(), env::var_os(AGENT)) else {
            eprintln!("skipped: PYRO_TEST_ENVIRONMENTS and PYRO_TEST_AGENT are not set");
            return None;
        };
        let home = tempfile::tempdir().unwrap();
        // Long paths are what socket addresses stumble over, commas and colons are what options do.
        let dir = home.path().join(format!("a,b:c-{}", "x".repeat(100)));
        let program =
            env::var_os(PROGRAM).unwrap_or_else(|| env!("CARGO_BIN_EXE_sandbox-init").into()).into();
        let spec = SandboxSpec {
            workspace: WORKSPACE,
            dir,
            rootfs,
            agent: agent.into(),
            program,
            network: false,
            tools: Tools::of_host(),
        };
        Some(Self { home, spec })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.spec.dir
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Starts the sandbox, runs one command in it, removes it, and returns what the command wrote to standard output.
    pub(crate) async fn ask(&self, command: &str) -> String {
        let booted = boot(&self.spec).await.unwrap();
        let (status, output) = run(booted.sandbox.guest(), 1, command).await;
        destroy(self.dir()).await.unwrap();
        assert_eq!(status, ExitStatus::Code(0), "{command}: {output}");
        output
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let dir = self.spec.dir.clone();
        // The runtime of the test cannot be waited for in its own threads.
        let ended = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move { destroy(&dir).await }).unwrap();
        });
        assert!(ended.join().is_ok() || std::thread::panicking(), "something of a sandbox is left");
    }
}

fn rootfs() -> Option<PathBuf> {
    let installed = || {
        let environments = Environments::new(PathBuf::from(env::var_os("PYRO_TEST_ENVIRONMENTS")?));
        let installed =
            environments.installed(&"debian:12".parse().unwrap()).expect("debian:12 is installed");
        Some(installed.rootfs_tree())
    };
    env::var_os(ROOTFS).map(PathBuf::from).or_else(installed)
}

/// Runs a command to its end and returns how it ended and its standard output.
pub(crate) async fn run(guest: &Guest, op: u64, command: &str) -> (ExitStatus, String) {
    let spec = ExecSpec { op, command: command.to_owned(), cwd: None, create_cwd: false, timeout: PATIENCE };
    let mut operation = guest.exec(spec).await.unwrap();
    let mut stdout = Vec::new();
    loop {
        match operation.next().await.unwrap() {
            Observation::Started { .. } => (),
            Observation::Output { stream, offset, data } => {
                operation.acknowledge(stream, offset + u64::try_from(data.len()).unwrap());
                match stream {
                    Stream::Stdout => stdout.extend_from_slice(&data),
                    Stream::Stderr => eprintln!("stderr: {}", String::from_utf8_lossy(&data)),
                }
            }
            Observation::Exited { status, .. } => {
                operation.forget().await.unwrap();
                return (status, String::from_utf8(stdout).unwrap());
            }
            other @ (Observation::Input { .. } | Observation::Gap { .. } | Observation::Failed(_)) => {
                panic!("{other:?}")
            }
        }
    }
}
