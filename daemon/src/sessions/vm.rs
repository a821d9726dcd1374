//! The `vm_*` operations.

use pyro_api::{
    ConnectedNetwork, DeleteResult, NetworkInfo, NoNetwork, ReapResult, VmCreateRequest, VmDeleteRequest,
    VmNetworkInfoRequest, VmObject, VmStartRequest, VmStatusRequest, VmStopRequest,
};
use pyro_core::{Command, Event, Lifetime, Workspace, WorkspaceId, WorkspaceKind};
use pyro_runtime::network;

use super::life::{execution_mode, gone, metadata};
use super::run::reused;
use super::spec::AsksForGuest as _;
use super::{Failure, Session};
use crate::{clock, expiry};

const KIND: WorkspaceKind = WorkspaceKind::Vm;

impl Session {
    pub(super) async fn vm_create(&mut self, request: VmCreateRequest) -> Result<VmObject, Failure> {
        let spec = request.spec()?;
        self.check_network(&spec)?;
        self.check_space()?;
        self.installed(&spec.environment).await?;
        let request_id = request.request_id.unwrap_or_else(pyro_api::new_request_id);
        let wish = |workspace| {
            let (kind, lifetime) = (KIND, Lifetime::Ttl);
            Command::CreateWorkspace { workspace, kind, lifetime, spec: spec.clone() }
        };
        let outcome = self.submit_new(request_id, wish).await?;
        let created = outcome.envelopes().iter().find_map(|envelope| match &envelope.event {
            Event::WorkspaceCreated(event) => Some(event.workspace),
            _ => None,
        });
        self.vm_object(created.ok_or_else(reused)?)
    }

    pub(super) async fn vm_start(&self, request: VmStartRequest) -> Result<VmObject, Failure> {
        let workspace = self.find(&request.vm_id, KIND)?;
        self.start(workspace, KIND, request.request_id).await?;
        self.vm_object(workspace)
    }

    pub(super) async fn vm_stop(&self, request: VmStopRequest) -> Result<VmObject, Failure> {
        let workspace = self.find(&request.vm_id, KIND)?;
        self.stop(workspace, KIND, request.request_id).await?;
        self.vm_object(workspace)
    }

    pub(super) async fn vm_delete(&self, request: VmDeleteRequest) -> Result<DeleteResult, Failure> {
        let workspace = self.find(&request.vm_id, KIND)?;
        let reason = self.delete(workspace, request.request_id).await?;
        Ok(DeleteResult { vm_id: workspace.to_string(), deleted: true, reason: reason.as_str().to_owned() })
    }

    pub(super) fn vm_status(&self, request: &VmStatusRequest) -> Result<VmObject, Failure> {
        let workspace = self.find(&request.vm_id, KIND)?;
        self.vm_object(workspace)
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

    pub(super) async fn vm_reap_expired(&self) -> Result<ReapResult, Failure> {
        let (reaped, state) = expiry::reap(&self.context).await;
        for workspace in &reaped {
            self.until_deleted(*workspace, state.seq.next()).await?;
        }
        let (vms, workspaces): (Vec<_>, Vec<_>) = reaped
            .iter()
            .partition(|id| state.workspace(**id).is_some_and(|workspace| workspace.kind == KIND));
        Ok(ReapResult {
            count: reaped.len() as u64,
            deleted_vm_ids: vms.into_iter().map(WorkspaceId::to_string).collect(),
            deleted_workspace_ids: workspaces.into_iter().map(WorkspaceId::to_string).collect(),
        })
    }

    fn vm_object(&self, id: WorkspaceId) -> Result<VmObject, Failure> {
        let state = self.context.engine.state();
        let workspace = state.workspace(id).ok_or_else(|| gone(id, KIND))?;
        Ok(vm_object(id, workspace))
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
