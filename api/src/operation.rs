//! The table of operations: which request is answered by which response.

use pyro_core::RequestId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::request::{
    AccessRefusedRequest, DaemonStatusRequest, DaemonStopRequest, DoctorRequest, EnvInspectRequest,
    EnvListRequest, EnvPruneRequest, EnvPullRequest, LogCompactRequest, LogHeadRequest, LogRequest,
    LogShowRequest, MountRequest, RunRequest, ShellAttachRequest, ShellCloseRequest, ShellFollowRequest,
    ShellListRequest, ShellOpenRequest, ShellReadRequest, ShellResizeRequest, ShellSignalRequest,
    ShellWriteRequest, TreeReadRequest, UmountRequest, VmCreateRequest, VmDeleteRequest, VmExecRequest,
    VmNetworkInfoRequest, VmReapExpiredRequest, VmStartRequest, VmStatusRequest, VmStopRequest,
    WorkspaceCreateRequest, WorkspaceDeleteRequest, WorkspaceExecRequest, WorkspaceListRequest,
    WorkspaceLogsRequest, WorkspaceStartRequest, WorkspaceStatusRequest, WorkspaceStopRequest,
    WorkspaceSyncPushRequest,
};
use crate::request_id::new_request_id;
use crate::response::{
    AccessRefusedResult, DaemonStatus, DaemonStopped, DeleteResult, DoctorReport, EnvList, EnvObject,
    ExecOutcome, LogCompactResult, LogEnd, LogExplanation, LogHead, MountObject, NetworkInfo, PruneResult,
    PullResult, ReapResult, RunOutcome, ShellCloseResult, ShellFollowEnd, ShellList, ShellObject,
    ShellReadResult, ShellSignalResult, ShellWriteResult, SyncResult, TreePart, UmountResult, VmObject,
    WorkspaceDeleteResult, WorkspaceList, WorkspaceLogsEnd, WorkspaceObject,
};

/// A request whose response has a known type.
pub trait Operation: Into<Request> + Clone {
    /// What answers it.
    type Response: Serialize + DeserializeOwned;

    /// Takes the answer out of a response; `None` when the response belongs to another operation.
    fn response(response: Response) -> Option<Self::Response>;

    /// Gives a request that changes something an id if it has none, so that it can be repeated after a lost reply.
    fn identify(&mut self);
}

macro_rules! operations {
    (@id $request:ident $id:ident) => { $request.$id };
    (@id $request:ident) => { None };
    (@identify $request:ident $id:ident) => { $request.$id.get_or_insert_with(new_request_id) };
    (@identify $request:ident) => { {} };
    (@name $id:ident $name:ident) => { stringify!($name) };
    ($($(#[$doc:meta])* $name:ident($request:ty $(, $id:ident)?) -> $response:ty,)+) => {
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

        impl Request {
            /// Returns the id that makes a repetition harmless; `None` for a request that has none or changes nothing.
            #[must_use]
            pub const fn request_id(&self) -> Option<RequestId> {
                match self {
                    $(Self::$name(_request) => { operations!(@id _request $($id)?) })+
                }
            }

            /// The names of the requests that change something, in the order of the table.
            pub const CHANGING: &'static [&'static str] = &[$($(operations!(@name $id $name),)?)+];
        }

        /// Any request at all, for clients that take its name from outside.
        impl Operation for Request {
            type Response = Response;

            fn response(response: Response) -> Option<Response> {
                Some(response)
            }

            fn identify(&mut self) {
                match self {
                    $(Self::$name(_request) => { operations!(@identify _request $($id)?); })+
                }
            }
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

                fn identify(&mut self) {
                    $(self.$id.get_or_insert_with(new_request_id);)?
                }
            }
        )+
    };
}

operations! {
    /// Creates a VM, runs one command in it and deletes it; sends progress and output.
    Run(RunRequest, request_id) -> RunOutcome,
    /// Lists the catalog of environments.
    EnvList(EnvListRequest) -> EnvList,
    /// Installs an environment; sends progress.
    EnvPull(EnvPullRequest, request_id) -> PullResult,
    /// Tells about one environment.
    EnvInspect(EnvInspectRequest) -> EnvObject,
    /// Removes what is left of old installations.
    EnvPrune(EnvPruneRequest, request_id) -> PruneResult,
    /// Creates a VM without starting it.
    VmCreate(VmCreateRequest, request_id) -> VmObject,
    /// Boots a VM.
    VmStart(VmStartRequest, request_id) -> VmObject,
    /// Runs one command in a started VM and deletes it; sends progress and output.
    VmExec(VmExecRequest, request_id) -> RunOutcome,
    /// Stops a VM.
    VmStop(VmStopRequest, request_id) -> VmObject,
    /// Deletes a VM.
    VmDelete(VmDeleteRequest, request_id) -> DeleteResult,
    /// Tells about a VM.
    VmStatus(VmStatusRequest) -> VmObject,
    /// Tells about the network of a VM.
    VmNetworkInfo(VmNetworkInfoRequest) -> NetworkInfo,
    /// Deletes all VMs and workspaces whose time to live is over.
    VmReapExpired(VmReapExpiredRequest, request_id) -> ReapResult,
    /// Creates a workspace and starts it; sends progress.
    WorkspaceCreate(WorkspaceCreateRequest, request_id) -> WorkspaceObject,
    /// Lists all workspaces.
    WorkspaceList(WorkspaceListRequest) -> WorkspaceList,
    /// Tells about a workspace.
    WorkspaceStatus(WorkspaceStatusRequest) -> WorkspaceObject,
    /// Runs one command in a started workspace; sends output.
    WorkspaceExec(WorkspaceExecRequest, request_id) -> ExecOutcome,
    /// Sends the commands that ended in a workspace, each followed by its output.
    WorkspaceLogs(WorkspaceLogsRequest) -> WorkspaceLogsEnd,
    /// Brings files into a workspace; sends progress, and with `watch` the result of each push.
    WorkspaceSyncPush(WorkspaceSyncPushRequest, request_id) -> SyncResult,
    /// Opens a shell.
    ShellOpen(ShellOpenRequest, request_id) -> ShellObject,
    /// Lists shells.
    ShellList(ShellListRequest) -> ShellList,
    /// Reads what a shell printed.
    ShellRead(ShellReadRequest) -> ShellReadResult,
    /// Follows what a shell prints; sends output.
    ShellFollow(ShellFollowRequest) -> ShellFollowEnd,
    /// Joins a terminal to a shell; sends output, takes input and sizes.
    ShellAttach(ShellAttachRequest) -> ShellFollowEnd,
    /// Types into a shell.
    ShellWrite(ShellWriteRequest, request_id) -> ShellWriteResult,
    /// Sends a signal to a shell.
    ShellSignal(ShellSignalRequest, request_id) -> ShellSignalResult,
    /// Gives a shell's terminal another size.
    ShellResize(ShellResizeRequest, request_id) -> ShellObject,
    /// Closes a shell.
    ShellClose(ShellCloseRequest, request_id) -> ShellCloseResult,
    /// Boots a stopped workspace.
    WorkspaceStart(WorkspaceStartRequest, request_id) -> WorkspaceObject,
    /// Stops a workspace.
    WorkspaceStop(WorkspaceStopRequest, request_id) -> WorkspaceObject,
    /// Deletes a workspace.
    WorkspaceDelete(WorkspaceDeleteRequest, request_id) -> WorkspaceDeleteResult,
    /// Sends the events of the log.
    Log(LogRequest) -> LogEnd,
    /// Explains one event of the log.
    LogShow(LogShowRequest) -> LogExplanation,
    /// Tells where the log ends.
    LogHead(LogHeadRequest) -> LogHead,
    /// Drops the beginning of the log.
    LogCompact(LogCompactRequest) -> LogCompactResult,
    /// Tells what this host can do.
    Doctor(DoctorRequest) -> DoctorReport,
    /// Mounts the tree of files.
    Mount(MountRequest) -> MountObject,
    /// Takes a mount away.
    Umount(UmountRequest) -> UmountResult,
    /// Records that a server did not let somebody in.
    AccessRefused(AccessRefusedRequest) -> AccessRefusedResult,
    /// Reads a part of a file of the tree; sends output.
    TreeRead(TreeReadRequest) -> TreePart,
    /// Tells about the daemon.
    DaemonStatus(DaemonStatusRequest) -> DaemonStatus,
    /// Ends the daemon. Guests go on.
    DaemonStop(DaemonStopRequest, request_id) -> DaemonStopped,
}
