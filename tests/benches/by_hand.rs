//! What pyro does, done by hand: the same QEMU with the same arguments, and runc with the same root.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pyro_tests::Pyro;
use tempfile::TempDir;

/// The command lines of a guest that pyro booted, to be used again without pyro.
pub(crate) struct Recorded {
    qemu: Vec<String>,
    bridge: Vec<String>,
    workspace: PathBuf,
}

impl Recorded {
    /// Boots a guest with pyro, notes how it did so, and deletes the guest.
    pub(crate) fn of(pyro: &Pyro, mut run: Command) -> Self {
        let mut child = run.spawn().expect("pyro can be started");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        stdout.read_line(&mut line).expect("a pipe can be read");
        assert_eq!(line, "ready\n");
        let arguments = |program: &str| {
            let (pid, _) = pyro
                .processes()
                .into_iter()
                .find(|(_, line)| line.contains(program))
                .expect("the guest runs");
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it is ours");
            let workspace = fs::read_link(format!("/proc/{pid}/cwd")).expect("it is ours");
            (line.trim_end_matches('\0').split('\0').map(str::to_owned).collect(), workspace)
        };
        let (qemu, workspace) = arguments("qemu-system");
        let (bridge, _) = arguments("vhost-device-vsock");
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
        let _deleted = pyro.wait_for("workspace_deleted");
        Self { qemu, bridge, workspace }
    }

    /// Boots the guest in a directory of its own. Returns the time from the start of the first program until the agent
    /// announces itself; neither making the disk nor ending the guest counts.
    pub(crate) fn boot(&self) -> Duration {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        make_disk(&dir.path().join("disk.raw"));
        let announced = UnixListener::bind(dir.path().join("v.uds_5006")).expect("a socket can be bound");
        let begun = Instant::now();
        let mut bridge = self.start(&self.bridge, dir.path(), Stdio::null());
        let device = loop {
            match UnixStream::connect(dir.path().join("v.sock")) {
                Ok(device) => break device,
                Err(_) => std::thread::yield_now(),
            }
        };
        let device: std::os::fd::OwnedFd = device.into();
        let mut qemu = self.start(&self.qemu, dir.path(), device.into());
        let (mut agent, _) = announced.accept().expect("the guest connects");
        agent.read_exact(&mut [0; 5]).expect("the agent announces itself");
        let took = begun.elapsed();
        for child in [&mut qemu, &mut bridge] {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
        took
    }

    fn start(&self, arguments: &[String], dir: &Path, stdin: Stdio) -> Child {
        let old = self.workspace.to_str().expect("the path is UTF-8");
        let new = dir.to_str().expect("the path is UTF-8");
        let arguments: Vec<_> = arguments.iter().map(|argument| argument.replace(old, new)).collect();
        Command::new(&arguments[0])
            .args(&arguments[1..])
            .current_dir(dir)
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program can be started")
    }
}

/// Makes an empty disk as pyro does; without a file system the guest does not boot.
fn make_disk(path: &Path) {
    fs::File::create(path).and_then(|disk| disk.set_len(8 << 30)).expect("a sparse file can be made");
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"])
        .arg(path)
        .status()
        .expect("mkfs.ext4 can be started");
    assert!(made.success(), "mkfs.ext4: {made}");
}

/// Makes a bundle that runs `true` in the root; `None` when runc cannot run it on this host.
pub(crate) fn runc_bundle(root: &Path) -> Option<TempDir> {
    let bundle = bundle_of(root, &["/bin/sh", "-lc", "true"])?;
    let probe = Command::new("runc")
        .args(["run", "--bundle"])
        .arg(bundle.path())
        .arg(format!("pyro-bench-{}", std::process::id()))
        .stdin(Stdio::null())
        .output()
        .ok()?;
    probe.status.success().then_some(bundle)
}

/// A container of runc that runs until this is dropped.
pub(crate) struct Container {
    name: String,
    _bundle: TempDir,
}

impl Container {
    /// Starts one with that root; `None` when runc cannot run it on this host.
    pub(crate) fn start(root: &Path) -> Option<Self> {
        let bundle = bundle_of(root, &["/bin/sleep", "100000"])?;
        let name = format!("pyro-bench-exec-{}", std::process::id());
        let mut command = Command::new("runc");
        command.args(["run", "--detach", "--bundle"]).arg(bundle.path()).arg(&name);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = command.status().ok()?;
        started.success().then_some(Self { name, _bundle: bundle })
    }

    /// Runs `true` in it.
    pub(crate) fn exec(&self) {
        let mut command = Command::new("runc");
        command.args(["exec", &self.name, "/bin/sh", "-lc", "true"]).stdin(Stdio::null());
        let status = command.status().expect("runc can be started");
        assert!(status.success(), "runc exec: {status}");
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _removed = Command::new("runc").args(["delete", "--force", &self.name]).status();
    }
}

/// Makes a bundle that runs those words in the root; `None` without runc.
fn bundle_of(root: &Path, words: &[&str]) -> Option<TempDir> {
    let bundle = tempfile::tempdir().expect("a temporary directory can be made");
    let spec = Command::new("runc").args(["spec", "--bundle"]).arg(bundle.path()).status().ok()?;
    assert!(spec.success(), "runc makes its example configuration");
    let path = bundle.path().join("config.json");
    let text = fs::read_to_string(&path).expect("runc made it");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(words);
    config["root"]["path"] = root.to_str().expect("the path is UTF-8").into();
    fs::write(path, config.to_string()).expect("the bundle can be written");
    Some(bundle)
}
