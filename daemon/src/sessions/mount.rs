//! `mount` and `umount`.

use std::path::{Path, PathBuf};

use pyro_api::{ApiError, ErrorCode, MountObject, MountRequest, UmountRequest, UmountResult};
use pyro_core::{Command, Mounted, Unmounted};
use pyro_fusefs::MountError;

use super::{Failure, Session, chain};
use crate::mounts;

impl Session {
    pub(super) async fn mount(&self, request: MountRequest) -> Result<MountObject, Failure> {
        let path = located(&request.path)?;
        let text = path.to_str().ok_or_else(|| failed("the path is not UTF-8"))?.to_owned();
        let wanted = Mounted { path: text, allow_other: request.allow_other };
        let mounts = &self.context.mounts;
        let _turn = mounts.changing.lock().await;
        if let Some(there) = mounts.at(&path) {
            if mounts::described(&there) == wanted {
                return Ok(mounts::object(&wanted));
            }
            tokio::task::block_in_place(|| there.unmount()).map_err(refused)?;
        }
        mounts::make(&self.context, &wanted).await.map_err(refused)?;
        let fact = Command::RecordMounted(wanted.clone());
        if let Err(refusal) = self.context.engine.submit(fact, self.origin(None)).await {
            // What is not on record must not be there.
            if let Some(there) = mounts.at(&path) {
                tokio::task::block_in_place(|| there.unmount()).map_err(refused)?;
            }
            return Err(refusal.into());
        }
        Ok(mounts::object(&wanted))
    }

    pub(super) async fn umount(&self, request: UmountRequest) -> Result<UmountResult, Failure> {
        let mounts = &self.context.mounts;
        let _turn = mounts.changing.lock().await;
        let path = match &request.path {
            Some(path) => located(path)?,
            None => mounts.only().map(|mount| mount.path().to_owned()).ok_or_else(|| {
                failed("there is not exactly one mount").with_hint("`pyro daemon status` shows all of them")
            })?,
        };
        let known = path.display().to_string();
        match mounts.at(&path) {
            Some(there) => tokio::task::block_in_place(|| there.unmount()).map_err(refused)?,
            // An earlier daemon may have left it behind.
            None if self.context.engine.state().mounts.contains_key(&known) => {
                tokio::task::block_in_place(|| pyro_fusefs::clear(&path)).map_err(refused)?;
            }
            None => return Err(failed(format_args!("nothing of this daemon is mounted at {known}")).into()),
        }
        let fact = Command::RecordUnmounted(Unmounted { path: known.clone() });
        self.context.engine.submit(fact, self.origin(None)).await?;
        Ok(UmountResult { path: known, unmounted: true })
    }
}

fn located(path: &str) -> Result<PathBuf, ApiError> {
    if !Path::new(path).is_absolute() {
        return Err(ApiError::new(ErrorCode::InvalidArgument, "the path of a mount is absolute"));
    }
    let located = tokio::task::block_in_place(|| mounts::located(Path::new(path)));
    located.map_err(|error| failed(format_args!("cannot mount at {path}: {error}")))
}

fn failed(message: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::MountFailed, message)
}

fn refused(error: MountError) -> ApiError {
    let hint = match &error {
        MountError::NotEmpty { .. } => Some("choose an empty directory, or one that does not exist"),
        MountError::Hung { .. } => Some("`umount -l` takes away what is mounted there"),
        MountError::Io { .. } => {
            Some("root can mount by itself; others need `fusermount3` of the package fuse3")
        }
    };
    let told = failed(chain(&error));
    hint.map_or(told.clone(), |hint| told.with_hint(hint))
}
