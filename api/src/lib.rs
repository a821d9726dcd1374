//! The contract of the daemon's socket: one request and one response type per operation, the framing, the handshake,
//! and the blocking client that all faces share.
//!
//! The structs here are the only description of the contract. Flags of the command line, properties of MCP schemas and
//! arguments of Python are derived from them, so they cannot drift apart.
//!
//! ```text
//! client                                  daemon
//!   Hello            ------------------->
//!                    <-------------------  Welcome, or Refused and the end
//!   Request          ------------------->
//!                    <-------------------  any number of Progress, Event and output frames
//!   (Cancel)         ------------------->
//!                    <-------------------  Reply
//!   next Request     ------------------->  ...
//! ```
//!
//! One connection carries one request at a time. `Cancel` is legal at any moment; when nothing is under way it does
//! nothing.

mod attach;
mod cancel;
mod captured;
mod client;
mod daemon_process;
mod error;
mod events;
mod frame;
mod history;
mod home;
mod host_path;
pub mod json;
mod keyboard;
mod link;
mod log_check;
mod log_point;
mod message;
mod mount_point;
mod operation;
mod readiness;
mod request;
mod request_id;
mod response;
mod run;
mod signal;

pub use attach::{Attachment, ShellEvent};
pub use cancel::CancelToken;
pub use captured::{CAPTURED_HEAD_BYTES, CAPTURED_TAIL_BYTES, CapturedOutput, CapturedStream, CapturedText};
pub use client::{CallError, Client, ClientInfo, ConnectError, Incoming, Sender, Start, TransportError};
pub use daemon_process::{StartError, stop_daemon};
pub use error::{ApiError, ErrorCode};
pub use events::{Events, NextEvent};
pub use frame::{
    Decoder, FRAME_HEAD_BYTES, Frame, FrameError, FrameHead, FrameKind, INPUT_LEN_MAX, Input, JSON_LEN_MAX,
    OUTPUT_LEN_MAX, Stream, encode_input, encode_message, encode_output,
};
pub use history::History;
pub use home::{Home, HomeError};
pub use host_path::resolve_host_path;
pub use keyboard::Keyboard;
pub use link::Link;
pub use log_check::{
    LogCheck, LogCheckProgress, LogCompacted, LogMark, LogMarkError, LogProblem, LogRepaired, LogVerdict,
};
pub use log_point::{LogPoint, LogPointError};
pub use message::{
    API_VERSION, ClientMessage, GapCause, Hello, Progress, PullProgress, RunProgress, ServerMessage,
    SyncPhase, SyncProgress, Welcome, face::face_of,
};
pub use mount_point::default_mount_point;
pub use operation::{Operation, Request, Response};
pub use pyro_core::{Face, RequestId};
pub use readiness::Readiness;
pub use request::{
    AccessFault, AccessRefusedRequest, DaemonStatusRequest, DaemonStopRequest, DoctorRequest,
    EnvInspectRequest, EnvListRequest, EnvPruneRequest, EnvPullRequest, LogCompactRequest, LogHeadRequest,
    LogRequest, LogShowRequest, MountRequest, Resume, RunRequest, ShellAttachRequest, ShellCloseRequest,
    ShellFollowRequest, ShellListRequest, ShellOpenRequest, ShellReadRequest, ShellResizeRequest,
    ShellSignalRequest, ShellWriteRequest, TreeReadRequest, UmountRequest, VmCreateRequest, VmDeleteRequest,
    VmExecRequest, VmNetworkInfoRequest, VmReapExpiredRequest, VmStartRequest, VmStatusRequest,
    VmStopRequest, WindowSize, WorkspaceCreateRequest, WorkspaceDeleteRequest, WorkspaceExecRequest,
    WorkspaceListRequest, WorkspaceLogsRequest, WorkspaceStartRequest, WorkspaceStatusRequest,
    WorkspaceStopRequest, WorkspaceSyncPushRequest,
};
pub use request_id::{RequestIdError, new_request_id, parse_request_id};
pub use response::{
    AccessRefusedResult, BackendReport, Capabilities, Cleanup, CommandRecord, ConnectedNetwork, DaemonStatus,
    DaemonStopped, DeleteResult, DoctorReport, EnvList, EnvObject, EventActor, ExecOutcome, ExecResult,
    KvmReport, LastCommand, LogCompactResult, LogDropped, LogEnd, LogEntry, LogEvent, LogExplanation,
    LogHead, MountObject, NetworkInfo, NetworkingReport, NoNetwork, OutputText, PruneResult, PullResult,
    ReapResult, RunOutcome, RunResult, RuntimeReport, ShellCloseResult, ShellFollowEnd, ShellList,
    ShellObject, ShellReadResult, ShellSignalResult, ShellWriteResult, SyncResult, ToolReport, TreePart,
    UmountResult, VmObject, WorkspaceDeleteResult, WorkspaceList, WorkspaceLogs, WorkspaceLogsEnd,
    WorkspaceObject, WorkspaceSeed, WorkspaceSync,
};
pub use run::{Followed, Run, RunEvent};
pub use signal::signal_name;
