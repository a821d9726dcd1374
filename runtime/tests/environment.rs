//! Pulls with the real tools: what is built, and what is left when a pull fails or is ended.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test, in its helpers too")]

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use pyro_core::EnvironmentName;
use pyro_runtime::environment::{Damage, Environments, NotInstalled, PullError, PullPhase};
use pyro_runtime::host::{MissingTool, Tool, Tools};

/// Any program; the pull only packs it.
const AGENT: &str = "/bin/true";

/// Directory names of the smallest environment.
const INSTALLED: &str = "linux-x86_64/debian_12-base-1.0.0";
const PARTIAL: &str = "linux-x86_64/.partial-debian_12-base-1.0.0";
const LOCK: &str = "linux-x86_64/.lock-debian_12-base-1.0.0";

/// Longest wait for something that takes a second when it works.
const PATIENCE: Duration = Duration::from_secs(60);

fn base() -> EnvironmentName {
    "debian:12-base".parse().unwrap()
}

/// Tells, with the reason on standard error, when environments cannot be built here.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn can_build() -> bool {
    let tools = Tools::of_host();
    let missing = [Tool::Mmdebstrap, Tool::MkfsErofs].iter().find_map(|tool| tools.require(*tool).err());
    if let Some(missing) = &missing {
        eprintln!("skipped: {missing}");
    }
    missing.is_none()
}

/// Waits until no pull and none of its programs is left: each of them holds the lock.
async fn wait_for_the_end(root: &Path) {
    let path = root.join(LOCK);
    let wait = tokio::task::spawn_blocking(move || {
        let lock = File::open(path).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    });
    tokio::time::timeout(PATIENCE, wait).await.expect("a program outlived its pull").unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names = entries.collect::<Vec<_>>();
    names.sort();
    names
}

/// One build, many questions, because a build takes half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_repairs_and_is_shared_and_damage_is_noticed() {
    if !can_build() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let environments = Environments::new(root.path().to_owned());
    let installed = root.path().join(INSTALLED);
    // What a damaged installation and a killed pull look like.
    for leftover in [INSTALLED, PARTIAL] {
        fs::create_dir_all(root.path().join(leftover).join("rootfs")).unwrap();
        fs::write(root.path().join(leftover).join("environment.json"), "{}").unwrap();
    }
    assert!(matches!(environments.installed(&base()), Err(NotInstalled::Damaged { .. })));

    let (first_phases, seen_by_first) = mpsc::channel();
    let (second_phases, seen_by_second) = mpsc::channel();
    let first = environments.pull(&base(), AGENT.as_ref(), move |progress| {
        first_phases.send(progress).unwrap();
    });
    let second = environments.pull(&base(), AGENT.as_ref(), move |progress| {
        second_phases.send(progress).unwrap();
    });
    let (first, second) = tokio::join!(first, second);
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.manifest(), second.manifest());

    let (first_seen, second_seen) = (Vec::from_iter(seen_by_first), Vec::from_iter(seen_by_second));
    let builders =
        [&first_seen, &second_seen].map(|seen| seen.iter().any(|step| step.phase == PullPhase::Image));
    assert!(builders[0] != builders[1], "exactly one of the two builds");
    let (builder, waiter) = if builders[0] { (first_seen, second_seen) } else { (second_seen, first_seen) };
    assert_eq!(waiter.first().map(|step| step.phase), Some(PullPhase::Waiting));
    assert!(builder.iter().filter_map(|step| step.fraction).is_sorted(), "{builder:?}");
    assert_eq!(
        names(&root.path().join("linux-x86_64")),
        [".lock-debian_12-base-1.0.0", "debian_12-base-1.0.0"]
    );

    let whole = environments.verify(&base()).unwrap();
    assert!(whole.rootfs_tree().join("workspace").is_dir() && whole.rootfs_tree().join("bin/bash").is_file());
    assert_eq!(names(&whole.rootfs_tree().join("dev")), [] as [&str; 0]);
    assert_eq!(fs::read_to_string(whole.rootfs_tree().join("etc/hostname")).unwrap(), "pyro\n");
    assert_eq!(&fs::read(whole.vmlinux()).unwrap()[..4], b"\x7fELF");
    assert_eq!(fs::read(whole.rootfs_image()).unwrap()[1024..1028], 0xe0f5_e1e2_u32.to_le_bytes());
    let initramfs = fs::read(whole.initramfs(AGENT.as_ref()).unwrap()).unwrap();
    let order = "/modules/virtio_blk.ko\n/modules/libcrc32c.ko\n/modules/erofs.ko\n";
    assert!(initramfs.windows(order.len()).any(|text| text == order.as_bytes()));

    let image = installed.join("rootfs.erofs");
    let mut content = fs::read(&image).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&image, &content).unwrap();
    assert!(environments.installed(&base()).is_ok(), "the quick look reads no content");
    let Err(NotInstalled::Damaged { source: Damage::Content { path }, .. }) = environments.verify(&base())
    else {
        panic!("the damage was not noticed");
    };
    assert_eq!(path, "rootfs.erofs");
    File::options().write(true).open(&image).unwrap().set_len(100).unwrap();
    assert_eq!(environments.prune().unwrap(), [installed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_pull_leaves_neither_files_nor_processes() {
    if !can_build() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let environments = Environments::new(root.path().to_owned());
    let (sender, mut running) = tokio::sync::mpsc::unbounded_channel();
    let pull = tokio::spawn(environments.pull(&base(), AGENT.as_ref(), move |progress| {
        // The first milestone comes from mmdebstrap itself.
        if progress.fraction > Some(0.0) {
            sender.send(()).ok();
        }
    }));
    tokio::time::timeout(PATIENCE, running.recv()).await.unwrap().expect("mmdebstrap started");
    pull.abort();
    assert!(pull.await.unwrap_err().is_cancelled());
    wait_for_the_end(root.path()).await;
    assert_eq!(names(&root.path().join("linux-x86_64")), [".lock-debian_12-base-1.0.0"]);
    assert!(matches!(environments.installed(&base()), Err(NotInstalled::Absent(_))));
    let own = root.path().to_str().unwrap();
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(own), "a mount was left");
}

/// All tools of the host but one, which is another program instead.
fn tools_with(dir: &Path, tool: Tool, program: Option<&str>) -> Tools {
    let host = Tools::of_host();
    let needed = [
        Tool::Mmdebstrap,
        Tool::AptGet,
        Tool::AptCache,
        Tool::AptConfig,
        Tool::DpkgDeb,
        Tool::MkfsErofs,
        Tool::NewUidMap,
        Tool::Setpriv,
        Tool::Unshare,
        Tool::Tar,
        Tool::Sh,
    ];
    for needed in needed {
        let target = if needed == tool { program.map(PathBuf::from) } else { host.find(needed.binary()) };
        if let Some(target) = target {
            symlink(target, dir.join(needed.binary())).unwrap();
        }
    }
    Tools::in_dirs(vec![dir.to_owned()])
}

#[tokio::test]
async fn a_missing_tool_is_named_before_anything_is_made() {
    if !can_build() {
        return;
    }
    let (root, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tools = tools_with(bin.path(), Tool::MkfsErofs, None);
    let error =
        Environments::with_tools(root.path().to_owned(), tools).pull(&base(), AGENT.as_ref(), |_| {}).await;
    let error = error.unwrap_err();
    assert!(matches!(error, PullError::MissingTool(MissingTool(Tool::MkfsErofs))));
    assert!(error.to_string().contains("erofs-utils"), "{error}");
    assert_eq!(names(&root.path().join("linux-x86_64")), [".lock-debian_12-base-1.0.0"]);
}

#[tokio::test]
async fn a_failing_tool_is_named_and_leaves_nothing() {
    if !can_build() {
        return;
    }
    let (root, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tools = tools_with(bin.path(), Tool::Mmdebstrap, Some("/bin/false"));
    let error =
        Environments::with_tools(root.path().to_owned(), tools).pull(&base(), AGENT.as_ref(), |_| {}).await;
    assert!(matches!(error, Err(PullError::ToolFailed { tool: "mmdebstrap", .. })));
    assert_eq!(names(&root.path().join("linux-x86_64")), [".lock-debian_12-base-1.0.0"]);
}
