//! `pyro mount` and `pyro umount`

use std::path::Path;
use std::process::ExitCode;

use pyro_api::{ApiError, ErrorCode, MountObject, MountRequest, UmountRequest, default_mount_point};

use super::print;
use crate::arguments::{MountArgs, UmountArgs};
use crate::exit::{Failure, Format};
use crate::sanitize;
use crate::session::Session;

pub(crate) fn mount(args: MountArgs) -> Result<ExitCode, Failure> {
    let path = match args.path {
        Some(path) => absolute(Path::new(&path))?,
        None => absolute(&default_mount_point()?)?,
    };
    let request = MountRequest { path, allow_other: args.allow_other };
    print(&Session::starting()?.call(request)?, Format::from_flag(args.format.json), mount_text)
}

pub(crate) fn umount(args: UmountArgs) -> Result<ExitCode, Failure> {
    let path = args.path.map(|path| absolute(Path::new(&path))).transpose()?;
    let result = Session::starting()?.call(UmountRequest { path })?;
    print(&result, Format::from_flag(args.format.json), |result| {
        format!("Unmounted: {}\n", sanitize::line(&result.path))
    })
}

fn mount_text(mount: &MountObject) -> String {
    let others = if mount.allow_other { " (for all users)" } else { "" };
    format!("Mounted: {}{others}\n", sanitize::line(&mount.path))
}

/// The daemon has another working directory. What is mounted may be dead, so nothing is looked up.
fn absolute(path: &Path) -> Result<String, ApiError> {
    let unusable = |message: String| ApiError::new(ErrorCode::InvalidArgument, message);
    let absolute =
        std::path::absolute(path).map_err(|error| unusable(format!("{}: {error}", path.display())))?;
    let text = absolute.into_os_string().into_string();
    text.map_err(|path| unusable(format!("the path {} is not UTF-8", path.display())))
}
