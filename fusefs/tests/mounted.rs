//! The promises of `docs/semantics.md` that only a kernel can show: reads that wait, writes, and the mount itself.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::sync::Arc;
use std::thread;

use pyro_core::{Command, Event, ExitStatus, Face, Seq, ShellSignal, TerminalSize};
use pyro_fusefs::{Mount, MountError, RefusalKind, Visibility};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

use crate::guests::Guests;
use crate::tree::{Look as _, Mounted, obstacle, walk, with_mount};
use crate::world::{SIZE, World};

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Errno {
    Errno::from_io_error(&result.unwrap_err()).unwrap()
}

fn write(path: &Path, text: &str) -> io::Result<usize> {
    OpenOptions::new().write(true).open(path)?.write(text.as_bytes())
}

/// Returns when so many reads wait.
fn until_waiting(mount: &Mount, count: usize) {
    while mount.waiting() != count {
        thread::yield_now();
    }
}

/// Runs a case with a mount where that is possible.
fn mounted(case: impl Fn(&World, &Arc<Mount>)) {
    if let Some(obstacle) = obstacle() {
        return eprintln!("{obstacle}");
    }
    let world = World::new();
    let mount = world.mount(Visibility::Owner);
    case(&world, &mount);
}

/// > A file whose name ends in `follow` gives everything from the first byte on, waits for more, and ends when its command or
/// > shell has ended.
#[test]
fn follow_gives_everything_until_the_end() {
    mounted(|world, mount| {
        let id = world.create(None);
        let (exec, shell) = (world.exec(id, "x"), world.open_shell(id, SIZE));
        let place = mount.path().join(id.to_string());
        world.stdout(id, exec, "before ");
        let follow = |path: std::path::PathBuf| thread::spawn(move || fs::read(path).unwrap());
        let readers = [
            follow(place.join("logs/1/stdout.follow")),
            follow(place.join("logs/1/stderr.follow")),
            follow(place.join(format!("shells/{shell}/follow"))),
        ];
        until_waiting(mount, 3);
        let mut expected = "before ".to_owned();
        for round in 0..200 {
            let text = format!("{round} ");
            world.stdout(id, exec, &text);
            world.show(id, shell, "shown ");
            expected.push_str(&text);
        }
        world.exit(id, exec, ExitStatus::Code(0));
        world.end_shell(id, shell);
        let [out, err, shown] = readers.map(|reader| String::from_utf8(reader.join().unwrap()).unwrap());
        assert_eq!((out, err, shown), (expected, String::new(), "shown ".repeat(200)));
        assert_eq!(fs::read(place.join("logs/1/stderr.follow")).unwrap(), b"", "it has ended");

        // Whoever waits for what is deleted is not forgotten.
        world.exec(id, "y");
        let (one, two) = (follow(place.join("logs/2/stdout.follow")), place.join("logs/2/stderr.follow"));
        let two = follow(two);
        until_waiting(mount, 2);
        world.delete(id);
        assert_eq!((one.join().unwrap(), two.join().unwrap()), (Vec::new(), Vec::new()));
    });
}

/// > `events.follow` gives the lines of `events.jsonl` and does not end.
#[test]
fn events_are_followed() {
    mounted(|world, mount| {
        world.create(None);
        let mut follow = File::open(mount.path().join("events.follow")).unwrap();
        let mut seen = Vec::new();
        for round in 0..50 {
            let expected = fs::read(mount.path().join("events.jsonl")).unwrap();
            while seen.len() < expected.len() {
                let mut buffer = [0; 100];
                let read = follow.read(&mut buffer).unwrap();
                seen.extend_from_slice(&buffer[..read]);
            }
            assert!(seen == expected, "{round}");
            let (world, waits) = (&world, &mut follow);
            thread::scope(|scope| {
                let reader = scope.spawn(|| {
                    let mut buffer = [0; 10];
                    let read = waits.read(&mut buffer).unwrap();
                    buffer[..read].to_vec()
                });
                until_waiting(mount, 1);
                world.install("debian:12");
                seen.extend(reader.join().unwrap());
            });
        }
    });
}

/// > A read that would wait fails with `EAGAIN` on a descriptor that must not block, and `poll` tells when there is something.
#[test]
fn polls_tell() {
    mounted(|world, mount| {
        let id = world.create(None);
        let exec = world.exec(id, "x");
        let path = mount.path().join(format!("{id}/logs/1/stdout.follow"));
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
        let mut follow = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).unwrap();
        let mut buffer = [0; 100];
        let ready = |follow: &File, wait: bool| {
            let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            let mut polled = [PollFd::new(follow, PollFlags::IN)];
            poll(&mut polled, (!wait).then_some(&none)).unwrap() == 1
        };
        for round in 0..20 {
            assert_eq!(follow.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert!(!ready(&follow, false));
            let (world, file) = (&world, &follow);
            thread::scope(|scope| {
                let waiter = scope.spawn(move || ready(file, true));
                if round == 10 {
                    world.exit(id, exec, ExitStatus::Code(0));
                } else {
                    world.stdout(id, exec, "more");
                }
                assert!(waiter.join().unwrap());
            });
            if round == 10 {
                assert_eq!(follow.read(&mut buffer).unwrap(), 0);
                break;
            }
            assert_eq!(follow.read(&mut buffer).unwrap(), 4);
        }
        let mut plain = File::open(mount.path().join("events.jsonl")).unwrap();
        assert!(ready(&plain, false) && plain.read(&mut buffer).is_ok());
    });
}

/// Starts a program that reads a file which is followed.
fn cat(path: &Path) -> std::process::Child {
    Program::new("cat").arg(path).stdout(Stdio::null()).spawn().unwrap()
}

/// > A signal ends a read that waits: within 50 ms, or within two seconds when up to 1,000 wait.
#[test]
fn signals_end_a_wait() {
    mounted(|world, mount| {
        let id = world.create(None);
        world.exec(id, "x");
        let path = mount.path().join(format!("{id}/logs/1/stdout.follow"));
        for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
            let mut readers: Vec<_> = (0..100).map(|_| cat(&path)).collect();
            until_waiting(mount, readers.len());
            for reader in &readers {
                kill_process(Pid::from_child(reader), signal).unwrap();
            }
            for reader in &mut readers {
                assert_eq!(reader.wait().unwrap().signal(), Some(signal.as_raw()));
            }
            until_waiting(mount, 0);
        }
    });
}

/// > When the mount is taken away, a read that waits fails with `ENODEV`.
#[test]
fn nobody_waits_for_a_mount_that_is_gone() {
    mounted(|world, mount| {
        let id = world.create(None);
        let exec = world.exec(id, "x");
        world.stdout(id, exec, "text");
        let mut plain = File::open(mount.path().join(format!("{id}/logs/1/stdout"))).unwrap();
        let mut follow = File::open(mount.path().join("events.follow")).unwrap();
        let waits = thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                match follow.read(&mut buffer) {
                    Ok(0) => break None,
                    Ok(_) => {}
                    Err(error) => break Errno::from_io_error(&error),
                }
            }
        });
        until_waiting(mount, 1);
        mount.unmount().unwrap();
        assert_eq!(waits.join().unwrap(), Some(Errno::NODEV));
        assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 0);
        let mut text = String::new();
        plain.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        drop(plain);
        while !mount.has_ended() {
            thread::yield_now();
        }
        mount.unmount().unwrap();
    });
}

/// > A line written to the `ctl` of a workspace is `exec COMMAND`, `exec timeout=SECONDS COMMAND`, `start`, `stop` or `delete`.
///
/// > A write returns when what it asks for is durable in the log, and does not wait for its end.
#[test]
fn a_workspace_takes_commands() {
    with_mount(|world, top| {
        let id = world.create(None);
        let place = top.join(id.to_string());
        let ctl = place.join("ctl");
        assert_eq!(fs::read(&ctl).unwrap(), b"");
        fs::write(&ctl, "exec printf 'a  b'\n").unwrap();
        assert_eq!(fs::read_to_string(place.join("logs/latest/command")).unwrap(), "printf 'a  b'\n");
        fs::write(&ctl, "exec timeout=7 make\n").unwrap();
        let state = world.state();
        let workspace = state.workspace(id).unwrap();
        assert_eq!(workspace.open_execs[&pyro_core::ExecNumber(2)].timeout_ms, 7000);
        for (line, phase) in [("stop", "stopping\n"), ("delete", "deleting\n")] {
            fs::write(&ctl, line).unwrap();
            assert_eq!(fs::read_to_string(place.join("state")).unwrap(), phase);
        }
    });
}

/// > A line written to the `ctl` of a shell is `signal NAME`, `resize COLUMNS ROWS` or `close`.
#[test]
fn a_shell_takes_commands() {
    with_mount(|world, top| {
        let id = world.create(None);
        let shell = world.open_shell(id, SIZE);
        let ctl = top.join(format!("{id}/shells/{shell}/ctl"));
        fs::write(&ctl, "signal INT\nresize 120 30\nclose\n").unwrap();
        let events: Vec<Event> =
            world.reader().read(Seq(1)).map(|envelope| envelope.unwrap().event).collect();
        let [.., Event::ShellSignaled(signaled), Event::ShellResized(resized), Event::ShellClosing(_)] =
            &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(signaled.signal, ShellSignal::Int);
        assert_eq!(resized.size, TerminalSize { columns: 120, rows: 30 });
    });
}

/// > What is written to `input` is typed, byte for byte; each write is typed as a whole or not at all.
#[test]
fn input_is_typed() {
    with_mount(|world, top| {
        let id = world.create(None);
        let shell = world.open_shell(id, SIZE);
        let input = top.join(format!("{id}/shells/{shell}/input"));
        let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        assert_eq!(OpenOptions::new().write(true).open(&input).unwrap().write(&bytes).unwrap(), bytes.len());
        assert!(world.typed() == bytes);
        world.end_shell(id, shell);
        assert_eq!(errno(write(&input, "late")), Errno::BUSY);
    });
}

/// > A command written to `exec/clone` is run, and the next read from the same descriptor gives its number.
#[test]
fn clone_gives_a_number() {
    with_mount(|world, top| {
        let id = world.create(None);
        let clone = top.join(format!("{id}/exec/clone"));
        assert_eq!(fs::read(&clone).unwrap(), b"");
        let open = || OpenOptions::new().read(true).write(true).open(&clone).unwrap();
        let (mut one, mut two) = (open(), open());
        one.write_all(b"make test\n").unwrap();
        two.write_all(b"timeout=5 make\n").unwrap();
        let number = |file: &mut File| {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!((number(&mut two), number(&mut one)), ("2\n".to_owned(), "1\n".to_owned()));
        assert_eq!(number(&mut one), "", "it is given once");
        let script = format!("exec 3<>{}; echo make test >&3; read n <&3; echo got $n", clone.display());
        let output = Program::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "got 3\n");
    });
}

/// > Several lines in one write are carried out in their order, and the write ends behind the last one before the first that
/// > is refused.
#[test]
fn lines_are_carried_out_in_order() {
    with_mount(|world, top| {
        let id = world.create(None);
        let ctl = top.join(format!("{id}/ctl"));
        let good = "exec one\n\n  exec two\n";
        assert_eq!(write(&ctl, &format!("{good}halt\nexec three\n")).unwrap(), good.len());
        assert_eq!(world.state().workspace(id).unwrap().exec_count, 2);
        assert_eq!(errno(write(&ctl, "halt\nexec three\n")), Errno::INVAL);
        assert_eq!(world.state().workspace(id).unwrap().exec_count, 2);
    });
}

/// > A line that is refused fails with `EINVAL` when it cannot be understood, `ENOENT` when what it is about is gone, `EBUSY`
/// > when it is not in the right state, `EAGAIN` when there is no room, `ENOSPC` when the disk is full and `EIO` when the log
/// > cannot be written.
///
/// > `last_error` says why the last write below the workspace was refused; it is empty when none was.
#[test]
fn refusals_say_why() {
    with_mount(|world, top| {
        let id = world.create(None);
        let place = top.join(id.to_string());
        let (ctl, why) = (place.join("ctl"), || fs::read_to_string(place.join("last_error")).unwrap());
        assert_eq!(why(), "");
        assert_eq!(errno(write(&ctl, "halt")), Errno::INVAL);
        assert_eq!(why(), "`halt` is none of: exec, start, stop, delete\n");
        for _ in 0..256 {
            write(&ctl, "exec x").unwrap();
        }
        assert_eq!(errno(write(&ctl, "exec x")), Errno::AGAIN);
        assert!(why().contains("256"), "{}", why());
        world.tell(Command::StopWorkspace { workspace: id });
        assert_eq!(errno(write(&ctl, "exec x")), Errno::BUSY);
        assert_eq!(why(), format!("cannot run a command in {id}: it is stopping\n"));
        for (kind, number) in [(RefusalKind::StorageFull, Errno::NOSPC), (RefusalKind::Failed, Errno::IO)] {
            world.refuse_next(kind);
            assert_eq!(errno(write(&ctl, "start")), number);
        }
        let mut late = OpenOptions::new().write(true).open(&ctl).unwrap();
        world.delete(id);
        assert_eq!(errno(late.write(b"start\n")), Errno::NOENT);
    });
}

/// > Events of what was written have the actor `fuse` with the writer's user id and process id.
#[test]
fn writers_are_on_record() {
    with_mount(|world, top| {
        let id = world.create(None);
        let writer = Program::new("sh")
            .args(["-c", "echo $$; echo exec x > $0"])
            .arg(top.join(format!("{id}/ctl")))
            .output()
            .unwrap();
        let pid: u32 = String::from_utf8_lossy(&writer.stdout).trim().parse().unwrap();
        let last = world.reader().read(Seq(1)).last().unwrap().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!((last.actor.face, last.actor.uid, last.actor.pid), (Face::Fuse, uid, pid));
        // The kernel tells of threads; this test is one of many.
        fs::write(top.join(format!("{id}/ctl")), "exec y").unwrap();
        let last = world.reader().read(Seq(1)).last().unwrap().unwrap();
        assert_eq!(last.actor.pid, std::process::id());
    });
}

/// > Outside of `files` nothing else can be changed: to create, rename, remove, truncate or chmod fails with `EPERM`.
#[test]
fn nothing_else_can_be_changed() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: the kernel refuses others by the permissions already");
    }
    with_mount(|world, top| {
        let id = world.create(Some("name"));
        let exec = world.exec(id, "x");
        world.stdout(id, exec, "text");
        let place = top.join(id.to_string());
        let stdout = place.join("logs/1/stdout");
        let refused = [
            errno(File::create(top.join("new"))),
            errno(File::create(&stdout)),
            errno(OpenOptions::new().append(true).open(&stdout)),
            errno(fs::create_dir(place.join("new"))),
            errno(std::os::unix::fs::symlink("a", place.join("new"))),
            errno(fs::hard_link(&stdout, place.join("new"))),
            errno(fs::rename(&stdout, place.join("new"))),
            errno(fs::remove_file(&stdout)),
            errno(fs::remove_file(top.join("by-name/name"))),
            errno(fs::remove_dir(place.join("logs"))),
            errno(fs::set_permissions(&stdout, fs::Permissions::from_mode(0o777))),
            errno(fs::set_permissions(place.join("ctl"), fs::Permissions::from_mode(0o777))),
            errno(OpenOptions::new().write(true).truncate(true).open(&stdout)),
            errno(OpenOptions::new().write(true).open(place.join("ctl")).unwrap().set_len(1)),
        ];
        assert_eq!(refused, [Errno::PERM; 14]);
        assert_eq!(fs::read(&stdout).unwrap(), b"text");
    });
}

/// > It is mounted with `nosuid`, `nodev` and `noexec`, and its source is `pyro`.
#[test]
fn the_mount_table_says_what_it_is() {
    with_mount(|_, top| {
        let table = fs::read_to_string("/proc/self/mounts").unwrap();
        let line = table.lines().find(|line| line.split(' ').nth(1) == top.to_str()).unwrap();
        let [source, _, kind, options, ..] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        assert_eq!((source, kind), ("pyro", "fuse"));
        let options: Vec<&str> = options.split(',').collect();
        for option in ["nosuid", "nodev", "noexec"] {
            assert!(options.contains(&option), "{line}");
        }
        assert!(!options.contains(&"allow_other"), "{line}");
    });
}

/// > Only the user whose daemon it is can enter it, unless it was mounted for others as well; those can read and not write, but in
/// > `files` they can do what its modes allow.
#[test]
fn others_stay_outside() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can be somebody else");
    }
    if let Some(obstacle) = obstacle() {
        return eprintln!("{obstacle}");
    }
    /// The user `nobody`.
    const NOBODY: u32 = 65534;
    for visibility in [Visibility::Owner, Visibility::Everybody] {
        let world = World::new();
        fs::set_permissions(world.dir(), fs::Permissions::from_mode(0o755)).unwrap();
        let mount = world.mount(visibility);
        let id = world.create(None);
        let nobody = |script: &str| {
            let place = mount.path().join(id.to_string());
            let mut program = Program::new("sh");
            program.args(["-c", script]).current_dir("/").arg(place).uid(NOBODY).gid(NOBODY);
            program.stderr(Stdio::null()).status().unwrap().success()
        };
        let enters = visibility == Visibility::Everybody;
        assert_eq!(nobody("cat $0/state"), enters);
        assert!(!nobody("echo exec x > $0/ctl"));
        if Guests::obstacle().is_none() {
            let inside = world.start_agent(id);
            for (name, mode) in [("shared", 0o666), ("own", 0o600)] {
                fs::write(inside.join(name), "").unwrap();
                fs::set_permissions(inside.join(name), fs::Permissions::from_mode(mode)).unwrap();
            }
            assert_eq!(nobody("echo x > $0/files/shared"), enters);
            assert!(!nobody("echo x > $0/files/own") && !nobody("echo x > $0/files/new"));
        }
        assert_eq!(world.state().workspace(id).unwrap().exec_count, 0);
    }
}

/// Tells the test that is run in a process of its own where to mount.
const KILLED_AT: &str = "PYRO_FUSEFS_KILLED_AT";

/// The process that [`a_dead_mount_is_replaced`] kills. It does nothing on its own.
#[test]
fn process_that_is_killed() {
    let Some(path) = std::env::var_os(KILLED_AT) else { return };
    let world = World::new();
    let _mount = Mount::new(Path::new(&path), Visibility::Owner, world.view()).unwrap();
    io::stdout().write_all(b"mounted\n").unwrap();
    // Its test removes what is left of it.
    std::mem::forget(world);
    loop {
        thread::park();
    }
}

/// A mount of another process, which can be killed.
struct Other {
    process: Child,
    path: PathBuf,
    /// What the process keeps, removed with it.
    _scratch: TempDir,
}

impl Other {
    fn mount(world: &World) -> Self {
        let path = world.dir().join("mnt");
        let scratch = tempfile::tempdir().unwrap();
        let mut process = Program::new(std::env::current_exe().unwrap())
            .args(["--exact", "mounted::process_that_is_killed", "--nocapture"])
            .env(KILLED_AT, &path)
            .env("TMPDIR", scratch.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut output = io::BufReader::new(process.stdout.take().unwrap());
        while !said.contains("mounted\n") {
            assert_ne!(io::BufRead::read_line(&mut output, &mut said).unwrap(), 0, "{said}");
        }
        Self { process, path, _scratch: scratch }
    }

    /// Sends a signal that stops it, and returns when it has stopped.
    fn stop(&self) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::STOP).unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped());
    }

    fn go_on(&self) {
        kill_process(Pid::from_child(&self.process), Signal::CONT).unwrap();
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Nothing is left to do in most cases.
        let _ended = self.process.kill();
        let _waited = self.process.wait();
        let _cleared = pyro_fusefs::clear(&self.path);
    }
}

/// > When the daemon is killed, calls that wait and those that come later fail with `ECONNABORTED` or `ENOTCONN`, also on what
/// > was open or a working directory; only output that was open may stay readable.
///
/// > A mount whose daemon was killed is replaced when it is mounted again.
#[test]
fn a_dead_mount_is_replaced() {
    if let Some(obstacle) = obstacle() {
        return eprintln!("{obstacle}");
    }
    let world = World::new();
    let mut other = Other::mount(&world);
    let path = other.path.clone();
    let busy = Mount::new(&path, Visibility::Owner, world.view());
    assert!(matches!(busy, Err(MountError::NotEmpty { .. })), "{busy:?}");
    let dead = |error: io::Result<_>| [Errno::CONNABORTED, Errno::NOTCONN].contains(&errno(error));
    let mut follow = File::open(path.join("events.follow")).unwrap();
    let waits = thread::spawn(move || follow.read(&mut [0; 4096]));
    let (mut open, dir) = (File::open(path.join("README")).unwrap(), File::open(&path).unwrap());
    other.kill();
    assert!(dead(waits.join().unwrap()), "it did not wait for the dead");
    assert!(dead(open.read(&mut [0; 10])) && dead(fs::metadata(&path).map(|_| 0)));
    let below = openat(&dir, "README", OFlags::RDONLY, Mode::empty());
    assert!(dead(below.map(|_| 0).map_err(io::Error::from)));
    world.mount(Visibility::Owner);
    let mut found = BTreeMap::new();
    walk(&Mounted(path.clone()), "", &mut found).unwrap();
    assert!(found.contains_key("README") && Mounted(path).exists("events.jsonl"));
}

/// > A daemon that was stopped by a signal lets its callers wait until it goes on or is killed.
#[test]
fn a_stopped_daemon_holds_its_callers() {
    if let Some(obstacle) = obstacle() {
        return eprintln!("{obstacle}");
    }
    let world = World::new();
    let mut other = Other::mount(&world);
    let readme = other.path.join("README");
    other.stop();
    let mut reader = cat(&readme);
    other.go_on();
    assert!(reader.wait().unwrap().success());
    let mut follower = cat(&other.path.join("events.follow"));
    other.stop();
    let mut reader = cat(&readme);
    other.kill();
    assert!(!reader.wait().unwrap().success() && !follower.wait().unwrap().success());
}
