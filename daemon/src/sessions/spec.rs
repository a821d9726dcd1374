//! What a guest shall be, from the requests that ask for one.

use pyro_api::{ApiError, RunRequest, VmCreateRequest, WorkspaceCreateRequest};
use pyro_core::{CATALOG, WorkspaceSpec};

use super::environments::environment_name;

/// A request for a guest.
pub(super) trait AsksForGuest {
    /// Returns what the guest shall be.
    ///
    /// # Errors
    ///
    /// When the catalog has no such environment.
    fn spec(&self) -> Result<WorkspaceSpec, ApiError>;
}

macro_rules! ask_for_guest {
    ($($request:ty,)+) => {
        $(
            impl AsksForGuest for $request {
                fn spec(&self) -> Result<WorkspaceSpec, ApiError> {
                    Ok(WorkspaceSpec {
                        environment: environment_name(&self.environment)?,
                        environment_version: version_of(&self.environment),
                        vcpu_count: self.vcpu_count,
                        mem_mib: self.mem_mib,
                        ttl_seconds: self.ttl_seconds,
                        network: self.network,
                        allow_host_compat: self.allow_host_compat,
                    })
                }
            }
        )+
    };
}

ask_for_guest! {
    RunRequest,
    VmCreateRequest,
    WorkspaceCreateRequest,
}

/// Tells whether two specifications come from the same request. The version is not asked for: the catalog has it.
pub(super) fn asks_for(known: &WorkspaceSpec, wanted: &WorkspaceSpec) -> bool {
    WorkspaceSpec { environment_version: known.environment_version.clone(), ..wanted.clone() } == *known
}

fn version_of(environment: &str) -> String {
    CATALOG
        .iter()
        .find(|entry| entry.name == environment)
        .map_or_else(String::new, |entry| entry.version.to_owned())
}
