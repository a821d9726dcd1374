//! PID 1 of a sandbox, until it becomes the agent.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, PipeReader, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, execveat, setgroups, sethostname, setresgid, setresuid, setsid};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::mount::MountAttrFlags;

use super::init::{Arguments, Doing as _, Ids, InitError};
use super::mounts::Mount;
use super::network::Uplink;
use super::root::{Ingredients, protect_proc};
use super::{confine, interfaces, limits};

/// Lowest descriptor that is none of the standard ones.
const OTHERS: i32 = 3;

/// Builds the sandbox around this process and replaces its program by the agent, which inherits the listening socket.
pub(super) fn become_agent(
    arguments: &Arguments,
    ids: Ids,
    mapped: &mut PipeReader,
    uplink: Option<Uplink>,
) -> Result<Infallible, InitError> {
    // A session of the daemon's would keep the daemon's job control reachable.
    setsid().doing("leave the session")?;
    let ingredients = Ingredients::open(arguments, ids)?;
    let agent = agent(&arguments.agent).doing("open the guest agent")?;
    limits::bound_processes()?;
    sethostname(&arguments.hostname).doing("set the host name")?;
    rustix::system::setdomainname(b"(none)").doing("set the domain name")?;
    interfaces::bring_loopback_up().doing("bring the loopback interface up")?;
    // When sandbox-init fails, the pipe ends without a byte, and the reason was told.
    mapped.read_exact(&mut [0]).doing("wait for the ids")?;
    become_sandbox_root(ids)?;
    ingredients.become_root()?;
    limits::forbid_user_namespaces()?;
    limits::bound_pids()?;
    protect_proc()?;
    let link = uplink.map(Uplink::connect).transpose()?;
    confine::confine()?;
    replace_program(&agent, link.as_ref())
}

/// Takes the agent as a mount that cannot be written: everybody in the sandbox can open `/proc/1/exe`, and the file
/// behind it starts other sandboxes as well.
fn agent(path: &Path) -> io::Result<Mount> {
    // The name may be a link.
    let agent = Mount::clone_of(&path.canonicalize()?)?;
    agent.restrict(MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    Ok(agent)
}

fn become_sandbox_root(ids: Ids) -> Result<(), InitError> {
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    match ids {
        Ids::Range => setgroups(&[]).doing("leave the daemon's groups")?,
        // They cannot be left, and nothing in the sandbox belongs to them.
        Ids::Single { .. } => {}
    }
    setresgid(group, group, group).doing("become the sandbox's root")?;
    setresuid(user, user, user).doing("become the sandbox's root")
}

/// Waits until this process is on record, places the descriptors, and starts the agent. `link` stays open in it and is
/// nothing that it knows of, so that the network ends with it.
fn replace_program(agent: &Mount, link: Option<&OwnedFd>) -> Result<Infallible, InitError> {
    // Marked as all others but the listener, so that exec closes it: that is how the daemon learns of it.
    let control = fcntl_dupfd_cloexec(io::stdout().as_fd(), OTHERS).doing("keep the control socket")?;
    let listener = fcntl_dupfd_cloexec(io::stdin().as_fd(), OTHERS).doing("keep the listener")?;
    fcntl_setfd(&listener, FdFlags::empty()).doing("pass the listener on")?;
    if let Some(link) = link {
        fcntl_setfd(link, FdFlags::empty()).doing("keep the network")?;
    }
    let words = ["pyro-guest-agent", "--listen-fd", &listener.as_raw_fd().to_string()]
        .map(|word| CString::new(word).expect("neither words nor numbers have a zero byte"));
    let null = File::options().read(true).write(true).open("/dev/null").doing("open /dev/null")?;
    let mut control = File::from(control);
    control.read_exact(&mut [0]).doing("wait for the record")?;
    let placed = rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .and_then(|()| rustix::stdio::dup2_stderr(&null));
    let environment: [CString; 0] = [];
    let replaced = placed
        .map_err(io::Error::from)
        .and_then(|()| Ok(execveat(agent.as_fd(), c"", &words, &environment, AtFlags::AT_EMPTY_PATH)?));
    // The reason is told on standard output.
    rustix::stdio::dup2_stdout(OwnedFd::from(control)).doing("take the control socket back")?;
    replaced.doing("start the guest agent")
}
