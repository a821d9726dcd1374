//! The mounts of this daemon: made on request or by configuration, and made again by each new daemon until somebody takes
//! them away.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use pyro_api::{MountObject, default_mount_point};
use pyro_core::{Command, Mounted, WorkspaceId};
use pyro_fusefs::{Mount, MountError, View, Visibility};
use pyro_store::outputs::StreamId;

use crate::config::MountChoice;
use crate::context::Context;
use crate::sessions::{MountHost, chain};

/// How long a mount that was taken away may take to end before there is another one in its place. One that somebody still
/// has files of open takes longer.
const END_ALLOWANCE: Duration = Duration::from_secs(2);

/// The mounts that are there.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    held: RwLock<Vec<Arc<Mount>>>,
    /// The tree for those who read it without a mount; `None` before the first of them.
    unmounted: Mutex<Option<Arc<View>>>,
    /// Held while a mount is made or taken away, so that two do not get in each other's way.
    pub(crate) changing: tokio::sync::Mutex<()>,
}

impl Mounts {
    fn all(&self) -> Vec<Arc<Mount>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.iter().filter(|mount| mount.is_there()).cloned().collect()
    }

    /// Returns what is to tell of each.
    pub(crate) fn list(&self) -> Vec<MountObject> {
        self.all().iter().map(|mount| object(&described(mount))).collect()
    }

    /// Returns the mount at a directory.
    pub(crate) fn at(&self, path: &Path) -> Option<Arc<Mount>> {
        self.all().into_iter().find(|mount| mount.path() == path)
    }

    /// Returns the mounts at a directory that are there no more and have not ended.
    fn ending(&self, path: &Path) -> Vec<Arc<Mount>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.iter().filter(|mount| mount.path() == path && !mount.has_ended()).cloned().collect()
    }

    /// Returns the only mount; `None` when there is none or more than one.
    pub(crate) fn only(&self) -> Option<Arc<Mount>> {
        match &self.all()[..] {
            [mount] => Some(Arc::clone(mount)),
            _ => None,
        }
    }

    /// Tells those who wait for more of a stream.
    pub(crate) fn stream_grew(&self, workspace: WorkspaceId, stream: StreamId) {
        for mount in self.held.read().unwrap_or_else(PoisonError::into_inner).iter() {
            mount.stream_grew(workspace, stream);
        }
    }

    fn log_grew(&self) {
        for mount in self.held.read().unwrap_or_else(PoisonError::into_inner).iter() {
            mount.log_grew();
        }
    }

    fn hold(&self, mount: Mount) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.retain(|mount| !mount.has_ended());
        held.push(Arc::new(mount));
    }

    /// Takes all of them away. The next daemon makes them again.
    pub(crate) fn end_all(&self) {
        // It holds the daemon's parts, of which this is one.
        *self.unmounted.lock().unwrap_or_else(PoisonError::into_inner) = None;
        for mount in self.all() {
            if let Err(error) = mount.unmount() {
                tracing::warn!(error = %chain(&error), "a mount is left behind");
            }
        }
    }
}

/// Returns the mount as it is on record.
pub(crate) fn described(mount: &Mount) -> Mounted {
    let allow_other = match mount.visibility() {
        Visibility::Owner => false,
        Visibility::Everybody => true,
    };
    Mounted { path: mount.path().display().to_string(), allow_other }
}

/// Returns what is told of a mount.
pub(crate) fn object(mounted: &Mounted) -> MountObject {
    MountObject { path: mounted.path.clone(), allow_other: mounted.allow_other }
}

fn view(context: &Arc<Context>) -> View {
    let host = MountHost::new(Arc::clone(context), tokio::runtime::Handle::current());
    let (engine, outputs) = (&context.engine, context.outputs.clone());
    View::new((*engine.state()).clone(), engine.reader().clone(), outputs, Arc::new(host))
}

/// Returns the tree as mounts show it, for those who read it without one. What was drawn for one reader is kept for the next.
pub(crate) fn tree(context: &Arc<Context>) -> Arc<View> {
    let mut unmounted = context.mounts.unmounted.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(unmounted.get_or_insert_with(|| Arc::new(view(context).without_kernel())))
}

/// Mounts the tree; the caller holds [`Mounts::changing`] and records it.
pub(crate) async fn make(context: &Arc<Context>, wanted: &Mounted) -> Result<(), MountError> {
    let view = view(context).casting_input(context.config.cast_input);
    let visibility = if wanted.allow_other { Visibility::Everybody } else { Visibility::Owner };
    let path = PathBuf::from(&wanted.path);
    let earlier = context.mounts.ending(&path);
    let made = tokio::task::spawn_blocking(move || {
        // When the thread of a mount that was taken away comes to its end, it takes away what is there.
        earlier.iter().for_each(|mount| mount.wait_for_end(END_ALLOWANCE));
        Mount::new(&path, visibility, view)
    });
    let mount = made.await.expect("mounting does not panic and is not aborted")?;
    tracing::info!(path = wanted.path, allow_other = wanted.allow_other, "mounted");
    context.mounts.hold(mount);
    Ok(())
}

/// Returns the directory with its parents as they are called for ever. The last name stays: what is there may be dead.
pub(crate) fn located(path: &Path) -> io::Result<PathBuf> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other("the root directory cannot be mounted at"));
    };
    std::fs::create_dir_all(parent)?;
    Ok(parent.canonicalize()?.join(name))
}

/// Makes the mounts that an earlier daemon had, and the one of the configuration. One that cannot be made is said and left out.
pub(crate) async fn restore(context: &Arc<Context>) {
    let _turn = context.mounts.changing.lock().await;
    let mut wanted = context.engine.state().mounts.clone();
    if let Some(configured) = configured(&context.config.mount) {
        wanted.entry(configured.path.clone()).or_insert(configured);
    }
    for mounted in wanted.into_values() {
        if let Err(error) = make(context, &mounted).await {
            tracing::warn!(error = %chain(&error), "a mount could not be made again");
            continue;
        }
        context.record_quietly(Command::RecordMounted(mounted)).await;
    }
}

fn configured(choice: &MountChoice) -> Option<Mounted> {
    let place = match choice {
        MountChoice::Wanted(false) => return None,
        MountChoice::Wanted(true) => default_mount_point().map_err(|error| error.to_string()),
        MountChoice::At(path) => Ok(path.clone()),
    };
    let located =
        place.and_then(|path| located(&path).map_err(|error| format!("{}: {error}", path.display())));
    let text =
        located.and_then(|path| path.into_os_string().into_string().map_err(|_| "not UTF-8".to_owned()));
    match text {
        Ok(path) => Some(Mounted { path, allow_other: false }),
        Err(error) => {
            tracing::warn!(error, "the mount of the configuration has no place");
            None
        }
    }
}

/// Tells the mounts of each new event, as long as the engine lives.
pub(crate) async fn follow(context: Arc<Context>) {
    let mut states = context.engine.states();
    while states.changed().await.is_ok() {
        context.mounts.log_grew();
    }
}
