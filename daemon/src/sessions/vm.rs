//! The `vm_*` operations.

use pyro_api::{
    ConnectedNetwork, DeleteResult, ErrorCode, LogPoint, NetworkInfo, NoNetwork, ReapResult, VmCreateRequest,
    VmDeleteRequest, VmNetworkInfoRequest, VmObject, VmReapExpiredRequest, VmStartRequest, VmStatusRequest,
    VmStopRequest,
};
use pyro_core::{Command, DeleteReason, Event, Lifetime, Seq, Workspace, WorkspaceId, WorkspaceKind};
use pyro_runtime::network;

use super::life::{execution_mode, gone, metadata};
use super::repeat::{Moment, is_met, same};
use super::run::reused;
use super::spec::{AsksForGuest as _, asks_for};
use super::{Failure, Session};
use crate::clock;

const KIND: WorkspaceKind = WorkspaceKind::Vm;

impl Session {
    pub(super) async fn vm_create(&mut self, request: VmCreateRequest) -> Result<VmObject, Failure> {
        let spec = request.spec()?;
        let request_id = request.request_id.unwrap_or_else(pyro_api::new_request_id);
        // A request that is known has its outcome, whatever has become of the environment.
        if !self.is_known(request_id) {
            self.check_network(&spec)?;
            self.check_space()?;
            self.installed(&spec.environment).await?;
        }
        let wish = |workspace| {
            let (kind, lifetime) = (KIND, Lifetime::Ttl);
            Command::CreateWorkspace { workspace, kind, lifetime, spec: spec.clone() }
        };
        let outcome = self.submit_new(request_id, wish).await?;
        let created = outcome.envelopes().iter().find_map(|envelope| match &envelope.event {
            Event::WorkspaceCreated(event)
                if event.kind == KIND && event.lifetime == Lifetime::Ttl && asks_for(&event.spec, &spec) =>
            {
                Some((event.workspace, envelope.seq))
            }
            _ => None,
        });
        let (workspace, created) = created.ok_or_else(reused)?;
        self.vm_object(workspace, Moment::of(&outcome, created)).await
    }

    pub(super) async fn vm_start(&self, request: VmStartRequest) -> Result<VmObject, Failure> {
        let workspace = self.find_for(&request.vm_id, KIND, request.request_id)?;
        let started = self.start(workspace, KIND, request.request_id).await.map_err(of_vm)?;
        self.vm_object(workspace, started).await
    }

    pub(super) async fn vm_stop(&self, request: VmStopRequest) -> Result<VmObject, Failure> {
        let workspace = self.find_for(&request.vm_id, KIND, request.request_id)?;
        let stopped = self.stop(workspace, KIND, request.request_id).await.map_err(of_vm)?;
        self.vm_object(workspace, stopped).await
    }

    pub(super) async fn vm_delete(&self, request: VmDeleteRequest) -> Result<DeleteResult, Failure> {
        let workspace = self.find_for(&request.vm_id, KIND, request.request_id)?;
        let reason = self.delete(workspace, request.request_id).await.map_err(of_vm)?;
        Ok(DeleteResult { vm_id: workspace.to_string(), deleted: true, reason: reason.as_str().to_owned() })
    }

    pub(super) async fn vm_status(&self, request: VmStatusRequest) -> Result<VmObject, Failure> {
        let workspace = self.find(&request.vm_id, KIND)?;
        self.vm_object(workspace, Moment::Now).await
    }

    pub(super) fn vm_network_info(&self, request: &VmNetworkInfoRequest) -> Result<NetworkInfo, Failure> {
        let workspace = self.find(&request.vm_id, KIND)?;
        let state = self.context.engine.state();
        let connected = state.workspace(workspace).ok_or_else(|| gone(workspace, KIND))?.spec.network;
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
            guest_ip: network::GUEST.to_string(),
            gateway_ip: network::GATEWAY.to_string(),
            subnet_cidr: network::SUBNET.to_string(),
            mac_address: network::MAC.to_string(),
            dns_servers: vec![network::NAME_SERVER.to_string()],
            outbound_connectivity_expected: true,
        }))
    }

    pub(super) async fn vm_reap_expired(&self, request: VmReapExpiredRequest) -> Result<ReapResult, Failure> {
        let now = self.context.engine.now().await;
        let submitted =
            self.context.engine.submit(Command::ReapExpired { now }, self.origin(request.request_id));
        let outcome = submitted.await?;
        let reaped = |event: &Event| match event {
            Event::WorkspaceDeleting(event) if event.reason == DeleteReason::Expired => Some(event.workspace),
            _ => None,
        };
        let first = same(&outcome, |event| reaped(event).is_some() || is_met(event, "reap_expired"))?;
        let reaped: Vec<_> =
            outcome.envelopes().iter().filter_map(|envelope| reaped(&envelope.event)).collect();
        for workspace in &reaped {
            self.until_deleted(*workspace, first).await?;
        }
        let before = self.state_at(LogPoint::Seq(Seq(first.0 - 1))).await?;
        let (vms, workspaces): (Vec<_>, Vec<_>) = reaped
            .iter()
            .partition(|id| before.workspace(**id).is_some_and(|workspace| workspace.kind == KIND));
        Ok(ReapResult {
            count: reaped.len() as u64,
            deleted_vm_ids: vms.into_iter().map(WorkspaceId::to_string).collect(),
            deleted_workspace_ids: workspaces.into_iter().map(WorkspaceId::to_string).collect(),
        })
    }

    async fn vm_object(&self, id: WorkspaceId, moment: Moment) -> Result<VmObject, Failure> {
        Ok(vm_object(id, &*self.look_at(id, KIND, moment).await?))
    }
}

fn vm_object(id: WorkspaceId, workspace: &Workspace) -> VmObject {
    let spec = &workspace.spec;
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
        execution_mode: execution_mode(workspace).as_str().to_owned(),
        metadata: metadata(workspace),
    }
}

/// Returns why something did not happen to a VM: one that is deleted meanwhile is no workspace that there never was.
pub(super) fn of_vm(failure: Failure) -> Failure {
    match failure {
        Failure::Told(mut error) if error.code == ErrorCode::UnknownWorkspace => {
            error.code = ErrorCode::UnknownVm;
            Failure::Told(error)
        }
        failure => failure,
    }
}
