//! Test suites of others for file systems, on the live files of a workspace.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use pyro_tests::{MountPoint, Output, Pyro, QEMU, SANDBOX, finish, tools};

/// What fails of `pjdfstest`, by the end of its cases' names: block and character devices cannot be made, because they lead
/// out of the workspace.
const REFUSED: [&str; 2] = ["::block", "::char"];

/// What `pjdfstest` passes over, by its reasons: the mount is never read-only, and it is `noexec`.
const NOT_TRIED: [&str; 3] = ["Remounts", "noexec", "LINK_MAX"];

/// Cases that the suite has, and those of them that are about devices.
const CASES: usize = 398;
const DEVICES: usize = 86;

fn run(name: &str, configure: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(tools().join("bin").join(name));
    configure(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}: run `make suites` first"));
    finish(child)
}

/// Runs `fsx`, which compares each read with what it has written, and `pjdfstest`, which tries each call as several users.
fn conforms(config: &str, options: &[&str]) {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can be several users");
    }
    let place = match MountPoint::new() {
        Ok(place) => place,
        Err(error) => return eprintln!("skipped: /dev/fuse: {error}"),
    };
    let pyro = Pyro::new().config(config);
    let id = pyro.create(options);
    let mounted = pyro.run(&["mount", &place.text(), "--allow-other"]);
    assert_eq!(mounted.code, Some(0), "{}", mounted.err());
    let own = place.path().parent().unwrap().to_owned();
    let files = place.path().join(id).join("files");
    for dir in [&own, &files] {
        fs::set_permissions(dir, Permissions::from_mode(0o777)).unwrap();
    }

    let fsx = run("fsx", |fsx| {
        fsx.args(["-q", "-N", "2000", "-S", "7", "-P"]).arg(&own).arg(files.join("fsx"));
    });
    assert_eq!(fsx.code, Some(0), "{}{}", fsx.out(), fsx.err());

    let configuration = own.join("pjdfstest.toml");
    fs::write(&configuration, configured(&own)).unwrap();
    let tried = run("pjdfstest", |suite| {
        suite.arg("-c").arg(&configuration).arg("-p").arg(&files);
    });
    judge(&tried);
}

/// Returns a configuration in which all is tried that a file system without devices can do. The other file system, which
/// links and renames do not reach, is the host's.
fn configured(other: &Path) -> String {
    format!(
        "[features]\nsecondary_fs = {:?}\nposix_fallocate = {{}}\nrename_ctime = {{}}\nutime_now = {{}}\n\
         utimensat = {{}}\n[settings]\nnaptime = 0.05\n[dummy_auth]\n\
         entries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"], [\"bin\", \"bin\"]]\n",
        other.display().to_string()
    )
}

/// Compares what the suite found with what is known. It says why in the line behind a case.
fn judge(tried: &Output) {
    let said = tried.out();
    let lines: Vec<_> = said.lines().map(str::trim).collect();
    let (mut cases, mut failed) = (0, 0);
    for (line, reason) in lines.iter().zip(lines.iter().skip(1)) {
        let Some((case, result)) = line.rsplit_once(' ') else { continue };
        let known = match result {
            "ok" => true,
            "FAILED" => {
                let refused = ["EPERM", "mknod"].iter().any(|known| reason.contains(known));
                refused && REFUSED.iter().any(|end| case.trim_end().ends_with(end))
            }
            "skipped" => NOT_TRIED.iter().any(|known| reason.contains(known)),
            _ => continue,
        };
        assert!(known, "{line}: {reason}\n{said}");
        cases += 1;
        failed += usize::from(result == "FAILED");
    }
    assert_eq!(cases, CASES, "{said}{}", tried.err());
    assert_eq!(failed, DEVICES, "the list of what fails is not true any more\n{said}");
}

/// Catches a call on a live file that does something else than POSIX says.
#[test]
fn of_files_of_a_sandbox() {
    conforms(SANDBOX, &["--allow-host-compat", "--ttl-seconds", "0"]);
}

/// Catches the same where the agent moves all bytes.
#[test]
fn of_files_of_a_vm() {
    conforms(QEMU, &["--ttl-seconds", "0"]);
}
