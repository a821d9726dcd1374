//! The `vm_*` operations.

use std::collections::BTreeMap;

use pyro_api::{
    ApiError, ConnectedNetwork, DeleteResult, ErrorCode, NetworkInfo, NoNetwork, ReapResult, VmCreateRequest,
    VmDeleteRequest, VmNetworkInfoRequest, VmObject, VmStartRequest, VmStatusRequest, VmStopRequest,
};
use pyro_core::{
    Command, DeleteReason, Event, ExecutionMode, Lifetime, Phase, Seq, Stopped, Workspace, WorkspaceId,
    WorkspaceKind, WorkspaceSpec,
};

use pyro_runtime::qemu::network;

use super::environments::environment_name;
use super::run::draw_id;
use super::{Failure, Session, error_of};
use crate::{clock, expiry};

/// Shortest beginning of an id that stands for it.
const PREFIX_LEN_MIN: usize = 4;

impl Session {
    pub(super) async fn vm_create(&mut self, request: VmCreateRequest) -> Result<VmObject, Failure> {
        let name = environment_name(&request.environment)?;
        self.check_network(request.network)?;
        self.check_space()?;
        self.installed(&name).await?;
        let spec = WorkspaceSpec {
            environment_version: pyro_core::CATALOG
                .iter()
                .find(|entry| entry.name == name.as_str())
                .map_or_else(String::new, |entry| entry.version.to_owned()),
            environment: name,
            vcpu_count: request.vcpu_count,
            mem_mib: request.mem_mib,
            ttl_seconds: request.ttl_seconds,
            network: request.network,
            allow_host_compat: request.allow_host_compat,
        };
        let wish = Command::CreateWorkspace {
            workspace: draw_id(),
            kind: WorkspaceKind::Vm,
            lifetime: Lifetime::Ttl,
            spec,
        };
        let outcome = self.context.engine.submit(wish, self.origin(request.request_id)).await?;
        let created = outcome.envelopes().iter().find_map(|envelope| match &envelope.event {
            Event::WorkspaceCreated(event) => Some(event.workspace),
            _ => None,
        });
        let Some(workspace) = created else {
            return Err(ApiError::new(
                ErrorCode::RequestIdReused,
                "the request id was used before, for another request",
            )
            .into());
        };
        self.vm_object(workspace)
    }

    pub(super) async fn vm_start(&self, request: VmStartRequest) -> Result<VmObject, Failure> {
        let workspace = self.find_vm(&request.vm_id)?;
        let from = self.context.engine.state().seq;
        let wish = Command::StartWorkspace { workspace };
        let outcome = self.context.engine.submit(wish, self.origin(request.request_id)).await?;
        let first = outcome.envelopes().first().map_or(from.next(), |envelope| envelope.seq);
        self.until(workspace, first, |event| match event {
            Event::WorkspaceStarted(_) => Some(Ok(())),
            Event::WorkspaceStartFailed(event) => {
                Some(Err(ApiError::new(ErrorCode::GuestUnavailable, &event.reason)))
            }
            Event::WorkspaceDeleted(_) => Some(Err(gone(workspace))),
            _ => None,
        })
        .await?;
        self.vm_object(workspace)
    }

    pub(super) async fn vm_stop(&self, request: VmStopRequest) -> Result<VmObject, Failure> {
        let workspace = self.find_vm(&request.vm_id)?;
        let wish = Command::StopWorkspace { workspace };
        let outcome = self.context.engine.submit(wish, self.origin(request.request_id)).await?;
        if let Some(first) = outcome.envelopes().first().map(|envelope| envelope.seq) {
            self.until(workspace, first, |event| match event {
                Event::WorkspaceStopped(_) => Some(Ok(())),
                Event::WorkspaceDeleted(_) => Some(Err(gone(workspace))),
                _ => None,
            })
            .await?;
        }
        self.vm_object(workspace)
    }

    pub(super) async fn vm_delete(&self, request: VmDeleteRequest) -> Result<DeleteResult, Failure> {
        let workspace = self.find_vm(&request.vm_id)?;
        let from = self.context.engine.state().seq;
        let wish = Command::DeleteWorkspace { workspace, reason: DeleteReason::Explicit };
        let outcome = self.context.engine.submit(wish, self.origin(request.request_id)).await?;
        let first = outcome.envelopes().first().map_or(from.next(), |envelope| envelope.seq);
        let reason = self.until_deleted(workspace, first).await?;
        Ok(DeleteResult { vm_id: workspace.to_string(), deleted: true, reason: reason.as_str().to_owned() })
    }

    pub(super) fn vm_status(&self, request: &VmStatusRequest) -> Result<VmObject, Failure> {
        let workspace = self.find_vm(&request.vm_id)?;
        self.vm_object(workspace)
    }

    pub(super) fn vm_network_info(&self, request: &VmNetworkInfoRequest) -> Result<NetworkInfo, Failure> {
        let workspace = self.find_vm(&request.vm_id)?;
        let state = self.context.engine.state();
        let connected = state.workspace(workspace).ok_or_else(|| gone(workspace))?.spec.network;
        let vm_id = workspace.to_string();
        if !connected {
            return Ok(NetworkInfo::None(NoNetwork {
                vm_id,
                network_enabled: false,
                outbound_connectivity_expected: false,
                reason: "the VM was created without a network".to_owned(),
            }));
        }
        Ok(NetworkInfo::Connected(ConnectedNetwork {
            vm_id,
            network_enabled: true,
            tap_name: None,
            guest_ip: network::GUEST.to_owned(),
            gateway_ip: network::GATEWAY.to_owned(),
            subnet_cidr: network::SUBNET.to_owned(),
            mac_address: network::MAC.to_owned(),
            dns_servers: vec![network::NAME_SERVER.to_owned()],
            outbound_connectivity_expected: true,
        }))
    }

    pub(super) async fn vm_reap_expired(&self) -> Result<ReapResult, Failure> {
        let state = self.context.engine.state();
        let reaped = expiry::reap(&self.context, &state).await;
        for workspace in &reaped {
            self.until_deleted(*workspace, state.seq.next()).await?;
        }
        let deleted_vm_ids: Vec<_> = reaped.iter().map(WorkspaceId::to_string).collect();
        Ok(ReapResult { count: deleted_vm_ids.len() as u64, deleted_vm_ids })
    }

    async fn until_deleted(&self, workspace: WorkspaceId, first: Seq) -> Result<DeleteReason, Failure> {
        let deleted = |event: &Event| match event {
            Event::WorkspaceDeleted(event) => Some(Ok(event.reason)),
            _ => None,
        };
        self.until(workspace, first, deleted).await
    }

    /// Waits for an event of a workspace that decides a request.
    async fn until<T>(
        &self,
        workspace: WorkspaceId,
        first: Seq,
        decide: impl Fn(&Event) -> Option<Result<T, ApiError>>,
    ) -> Result<T, Failure> {
        let mut follower = self.context.engine.follow(first);
        loop {
            let envelope =
                follower.next().await.map_err(|error| ApiError::new(ErrorCode::LogCorrupt, error))?;
            let Some(envelope) = envelope else {
                return Err(error_of(crate::engine::Refusal::Stopping).into());
            };
            if envelope.event.workspace() == Some(workspace)
                && let Some(decided) = decide(&envelope.event)
            {
                return Ok(decided?);
            }
        }
    }

    /// Returns the VM of an id or of an unambiguous beginning of one.
    pub(super) fn find_vm(&self, text: &str) -> Result<WorkspaceId, Failure> {
        let state = self.context.engine.state();
        let hexadecimal = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !hexadecimal || !(PREFIX_LEN_MIN..=WorkspaceId::TEXT_LEN).contains(&text.len()) {
            let message = "a VM id is 12 lower-case hexadecimal characters, or the first 4 or more of them";
            return Err(ApiError::new(ErrorCode::InvalidArgument, message).into());
        }
        let vms = state.workspaces.iter().filter(|(_, workspace)| workspace.kind == WorkspaceKind::Vm);
        let mut matching = vms.filter(|(id, _)| id.to_string().starts_with(text)).map(|(id, _)| *id);
        match (matching.next(), matching.next()) {
            (Some(id), None) => Ok(id),
            (Some(_), Some(_)) => {
                Err(ApiError::new(ErrorCode::AmbiguousId, format!("more than one VM id begins with {text}"))
                    .into())
            }
            (None, _) => Err(ApiError::new(ErrorCode::UnknownVm, format!("no VM {text} exists")).into()),
        }
    }

    fn vm_object(&self, id: WorkspaceId) -> Result<VmObject, Failure> {
        let state = self.context.engine.state();
        let workspace = state.workspace(id).ok_or_else(|| gone(id))?;
        Ok(vm_object(id, workspace))
    }
}

fn gone(workspace: WorkspaceId) -> ApiError {
    ApiError::new(ErrorCode::UnknownVm, format!("{workspace} was deleted"))
}

fn vm_object(id: WorkspaceId, workspace: &Workspace) -> VmObject {
    let spec = &workspace.spec;
    let mode = match (&workspace.phase, &workspace.guest) {
        (Phase::Created | Phase::Starting, _) | (_, None) => ExecutionMode::Pending,
        (_, Some(guest)) => guest.backend.execution_mode(),
    };
    VmObject {
        vm_id: id.to_string(),
        environment: spec.environment.to_string(),
        environment_version: Some(spec.environment_version.clone()),
        state: workspace.phase.as_str().to_owned(),
        vcpu_count: spec.vcpu_count,
        mem_mib: spec.mem_mib,
        ttl_seconds: spec.ttl_seconds,
        created_at: clock::epoch_seconds(workspace.created_at),
        expires_at: workspace.expires_at().map(clock::epoch_seconds),
        network_enabled: spec.network,
        allow_host_compat: spec.allow_host_compat,
        guest_ip: None,
        tap_name: None,
        execution_mode: mode.as_str().to_owned(),
        metadata: metadata(workspace),
    }
}

fn metadata(workspace: &Workspace) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::from([
        ("allow_host_compat".to_owned(), workspace.spec.allow_host_compat.to_string()),
        ("environment_version".to_owned(), workspace.spec.environment_version.clone()),
        ("network_enabled".to_owned(), workspace.spec.network.to_string()),
    ]);
    if let Some(guest) = &workspace.guest {
        metadata.insert("backend".to_owned(), guest.backend.as_str().to_owned());
        metadata.insert("accelerator".to_owned(), guest.accelerator.as_str().to_owned());
        metadata.insert("boot_ms".to_owned(), guest.boot_ms.to_string());
    }
    if let Phase::Stopped(Stopped::BootFailed(reason)) = &workspace.phase {
        metadata.insert("boot_failure".to_owned(), reason.clone());
    }
    metadata
}
