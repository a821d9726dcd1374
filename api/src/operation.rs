//! The table of operations: which request is answered by which response.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::request::{
    DaemonStatusRequest, DaemonStopRequest, DoctorRequest, EnvInspectRequest, EnvListRequest,
    EnvPruneRequest, EnvPullRequest, LogHeadRequest, LogRequest, LogShowRequest, RunRequest,
    ShellAttachRequest, ShellCloseRequest, ShellFollowRequest, ShellListRequest, ShellOpenRequest,
    ShellReadRequest, ShellResizeRequest, ShellSignalRequest, ShellWriteRequest, VmCreateRequest,
    VmDeleteRequest, VmExecRequest, VmNetworkInfoRequest, VmReapExpiredRequest, VmStartRequest,
    VmStatusRequest, VmStopRequest, WorkspaceCreateRequest, WorkspaceDeleteRequest, WorkspaceExecRequest,
    WorkspaceListRequest, WorkspaceLogsRequest, WorkspaceStartRequest, WorkspaceStatusRequest,
    WorkspaceStopRequest, WorkspaceSyncPushRequest,
};
use crate::response::{
    DaemonStatus, DaemonStopped, DeleteResult, DoctorReport, EnvList, EnvObject, ExecOutcome, LogEnd,
    LogExplanation, LogHead, NetworkInfo, PruneResult, PullResult, ReapResult, RunOutcome, ShellCloseResult,
    ShellFollowEnd, ShellList, ShellObject, ShellReadResult, ShellSignalResult, ShellWriteResult, SyncResult,
    VmObject, WorkspaceDeleteResult, WorkspaceList, WorkspaceLogsEnd, WorkspaceObject,
};

/// A request whose response has a known type.
pub trait Operation: Into<Request> + Clone {
    /// What answers it.
    type Response: Serialize + DeserializeOwned;

    /// Takes the answer out of a response; `None` when the response belongs to another operation.
    fn response(response: Response) -> Option<Self::Response>;
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $response:ty,)+) => {
        /// All that can be asked of the daemon.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Request {
            $($(#[$doc])* $name($request),)+
        }

        /// The answer to a [`Request`], under the same name.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Response {
            $($(#[$doc])* $name($response),)+
        }

        $(
            impl From<$request> for Request {
                fn from(request: $request) -> Self {
                    Self::$name(request)
                }
            }

            impl Operation for $request {
                type Response = $response;

                fn response(response: Response) -> Option<$response> {
                    match response {
                        Response::$name(response) => Some(response),
                        _ => None,
                    }
                }
            }
        )+
    };
}

operations! {
    /// Creates a VM, runs one command in it and deletes it; sends progress and output.
    Run(RunRequest) -> RunOutcome,
    /// Lists the catalog of environments.
    EnvList(EnvListRequest) -> EnvList,
    /// Installs an environment; sends progress.
    EnvPull(EnvPullRequest) -> PullResult,
    /// Tells about one environment.
    EnvInspect(EnvInspectRequest) -> EnvObject,
    /// Removes what is left of old installations.
    EnvPrune(EnvPruneRequest) -> PruneResult,
    /// Creates a VM without starting it.
    VmCreate(VmCreateRequest) -> VmObject,
    /// Boots a VM.
    VmStart(VmStartRequest) -> VmObject,
    /// Runs one command in a started VM and deletes it; sends progress and output.
    VmExec(VmExecRequest) -> RunOutcome,
    /// Stops a VM.
    VmStop(VmStopRequest) -> VmObject,
    /// Deletes a VM.
    VmDelete(VmDeleteRequest) -> DeleteResult,
    /// Tells about a VM.
    VmStatus(VmStatusRequest) -> VmObject,
    /// Tells about the network of a VM.
    VmNetworkInfo(VmNetworkInfoRequest) -> NetworkInfo,
    /// Deletes all VMs and workspaces whose time to live is over.
    VmReapExpired(VmReapExpiredRequest) -> ReapResult,
    /// Creates a workspace and starts it; sends progress.
    WorkspaceCreate(WorkspaceCreateRequest) -> WorkspaceObject,
    /// Lists all workspaces.
    WorkspaceList(WorkspaceListRequest) -> WorkspaceList,
    /// Tells about a workspace.
    WorkspaceStatus(WorkspaceStatusRequest) -> WorkspaceObject,
    /// Runs one command in a started workspace; sends output.
    WorkspaceExec(WorkspaceExecRequest) -> ExecOutcome,
    /// Sends the commands that ended in a workspace, each followed by its output.
    WorkspaceLogs(WorkspaceLogsRequest) -> WorkspaceLogsEnd,
    /// Brings files into a workspace; sends progress, and with `watch` the result of each push.
    WorkspaceSyncPush(WorkspaceSyncPushRequest) -> SyncResult,
    /// Opens a shell.
    ShellOpen(ShellOpenRequest) -> ShellObject,
    /// Lists shells.
    ShellList(ShellListRequest) -> ShellList,
    /// Reads what a shell printed.
    ShellRead(ShellReadRequest) -> ShellReadResult,
    /// Follows what a shell prints; sends output.
    ShellFollow(ShellFollowRequest) -> ShellFollowEnd,
    /// Joins a terminal to a shell; sends output, takes input and sizes.
    ShellAttach(ShellAttachRequest) -> ShellFollowEnd,
    /// Types into a shell.
    ShellWrite(ShellWriteRequest) -> ShellWriteResult,
    /// Sends a signal to a shell.
    ShellSignal(ShellSignalRequest) -> ShellSignalResult,
    /// Gives a shell's terminal another size.
    ShellResize(ShellResizeRequest) -> ShellObject,
    /// Closes a shell.
    ShellClose(ShellCloseRequest) -> ShellCloseResult,
    /// Boots a stopped workspace.
    WorkspaceStart(WorkspaceStartRequest) -> WorkspaceObject,
    /// Stops a workspace.
    WorkspaceStop(WorkspaceStopRequest) -> WorkspaceObject,
    /// Deletes a workspace.
    WorkspaceDelete(WorkspaceDeleteRequest) -> WorkspaceDeleteResult,
    /// Sends the events of the log.
    Log(LogRequest) -> LogEnd,
    /// Explains one event of the log.
    LogShow(LogShowRequest) -> LogExplanation,
    /// Tells where the log ends.
    LogHead(LogHeadRequest) -> LogHead,
    /// Tells what this host can do.
    Doctor(DoctorRequest) -> DoctorReport,
    /// Tells about the daemon.
    DaemonStatus(DaemonStatusRequest) -> DaemonStatus,
    /// Ends the daemon. Guests go on.
    DaemonStop(DaemonStopRequest) -> DaemonStopped,
}
