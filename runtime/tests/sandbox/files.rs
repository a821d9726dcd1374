//! The files of a sandbox, from the host.

use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use bytes::Bytes;
use pyro_core::ExitStatus;
use pyro_protocol::{FileAccess, FileCall, FileKind, FileTarget, NewFile};
use pyro_runtime::sandbox::{boot, destroy};

use super::place::{PATIENCE, Place, run};

/// Catches files that are not the ones which commands see, owners of the host in place of the sandbox's, and an open
/// file that does not come to the host.
#[tokio::test(flavor = "multi_thread")]
async fn host_and_commands_see_the_same_files() {
    let Some(place) = Place::new() else { return };
    let booted = boot(&place.spec).await.unwrap();
    let guest = booted.sandbox.guest();
    let files = guest.files("/workspace", PATIENCE).await.unwrap();
    let new = NewFile { mode: 0o640, uid: 0, gid: 0 };
    let create = |path: &str| FileCall::Create {
        path: path.into(),
        access: FileAccess::ReadWrite,
        exclusive: true,
        truncate: false,
        new,
    };
    let open = files.open(create("through the agent")).await.unwrap();
    assert_eq!(files.write(open.handle, 0, Bytes::from_static(b"one\n")).await.unwrap(), 4);
    let local = open.local.expect("the sandbox hands its files over");
    local.write_all_at(b"two\n", 4).unwrap();
    let (status, said) =
        run(guest, 1, "cd /workspace && stat -c '%n %a %U' * && cat * && mkfifo p && ln -s p l").await;
    assert_eq!((status, said.as_str()), (ExitStatus::Code(0), "through the agent 640 root\none\ntwo\n"));
    assert_eq!(files.read(open.handle, 0, 100).await.unwrap(), "one\ntwo\n");
    for (path, kind) in [("p", FileKind::Fifo), ("l", FileKind::Symlink), ("", FileKind::Directory)] {
        let stat = files.stat(FileCall::Stat(FileTarget::Path(path.into()))).await.unwrap();
        assert_eq!((stat.kind, stat.uid), (kind, 0), "{path:?}");
    }
    booted.sandbox.process().kill().unwrap();
    let gone = files.stat(FileCall::Stat(FileTarget::Path(Vec::new())));
    assert!(tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap().is_err());
    destroy(place.dir()).await.unwrap();
}
