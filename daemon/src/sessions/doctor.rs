//! `pyro doctor`.

use std::collections::BTreeMap;
use std::path::Path;

use pyro_api::{
    ApiError, BackendReport, Capabilities, DoctorReport, DoctorRequest, ErrorCode, KvmReport,
    NetworkingReport, RuntimeReport, ToolReport,
};
use pyro_core::{Accelerator, Backend, ProbeVerdict, State};
use pyro_runtime::environment::Inspection;
use pyro_runtime::host::{Probe, Tool};
use pyro_runtime::{host, qemu};

use super::environments::object;
use super::{Failure, Session};
use crate::backend;
use crate::config::{AcceleratorChoice, BackendChoice};

/// The only platform of guests.
const PLATFORM: &str = "linux-x86_64";

impl Session {
    pub(super) async fn doctor(&self, request: DoctorRequest) -> Result<DoctorReport, Failure> {
        if request.platform != PLATFORM {
            let message = format!("unknown platform {}; the only one is {PLATFORM}", request.platform);
            return Err(ApiError::new(ErrorCode::InvalidArgument, message).into());
        }
        let (home, environments) = (self.context.home.root().to_owned(), self.context.environments.clone());
        let look = move || (host::probe(&home), environments.list());
        let (probe, inspections) =
            tokio::task::spawn_blocking(look).await.expect("a look at the host does not panic");
        let state = self.context.engine.state();
        let agent = &self.context.programs.agent;
        let backends = self.backends(&state, &probe, &inspections);
        let mut allowed = backends.iter().filter(|backend| self.is_configured(backend));
        let chosen = allowed.find(|backend| is_usable(&backend.verdict)).filter(|_| agent.exists());
        let vm = chosen.filter(|backend| backend.backend != Backend::HostSandbox.as_str());
        let mut issues: Vec<_> = probe
            .missing
            .iter()
            .map(|missing| format!("{}: {}; {}", missing.what, missing.effect, missing.remedy))
            .collect();
        if !agent.exists() {
            issues.insert(
                0,
                format!(
                    "the guest agent is not at {}: no guest can run; build pyro with `make build`",
                    agent.display()
                ),
            );
        }
        Ok(DoctorReport {
            platform: request.platform,
            runtime_ok: agent.exists(),
            issues,
            kvm: KvmReport {
                exists: probe.kvm.exists,
                readable: probe.kvm.readable,
                writable: probe.kvm.writable,
            },
            networking: networking(&probe),
            runtime: agent.exists().then(|| self.runtime(&probe, &inspections, vm.is_some())),
            backend: vm.map(|backend| backend.backend.clone()),
            accelerator: vm.map(|backend| backend.accelerator.clone()),
            last_boot_ms: vm.and_then(|backend| backend.boot_ms),
            tools: tools(&probe),
            backends,
        })
    }

    /// Tells whether the configuration lets guests run that way.
    fn is_configured(&self, report: &BackendReport) -> bool {
        let config = &self.context.config;
        let backend = match config.backend {
            BackendChoice::Auto => true,
            BackendChoice::Qemu => report.backend == Backend::Qemu.as_str(),
            BackendChoice::HostSandbox => report.backend == Backend::HostSandbox.as_str(),
        };
        let accelerator = match config.accelerator {
            AcceleratorChoice::Auto => true,
            AcceleratorChoice::Tcg => report.accelerator != Accelerator::Kvm.as_str(),
        };
        backend && accelerator
    }

    /// Returns every way to run guests, best first.
    fn backends(&self, state: &State, probe: &Probe, inspections: &[Inspection]) -> Vec<BackendReport> {
        let missing = backend::vm_tools_missing(&self.context);
        let boot_ms = |backend: Backend, accelerator: &str| {
            let mut boots = state.boots_ms.iter();
            let boot = boots.find(|((ran, by), _)| *ran == backend && by.as_str() == accelerator);
            boot.map(|(_, boot_ms)| *boot_ms)
        };
        let vm = |accelerator: &str, verdict: &str, reason: Option<String>, remedy: Option<String>| {
            let verdict = if missing.is_some() { "missing" } else { verdict };
            BackendReport {
                backend: Backend::Qemu.as_str().to_owned(),
                accelerator: accelerator.to_owned(),
                verdict: verdict.to_owned(),
                reason: missing.clone().or(reason),
                // What is missing is told with what brings it.
                remedy: if missing.is_some() { None } else { remedy },
                network: is_usable(verdict),
                boot_ms: boot_ms(Backend::Qemu, accelerator),
            }
        };
        let (verdict, reason) = self.kvm(state, probe, inspections);
        let remedy = (verdict != "works")
            .then(|| "a host whose /dev/kvm boots guests runs them 5 to 15 times faster".to_owned());
        let slow = "without KVM the processor is translated: work is 5 to 15 times slower than on the host";
        let sandbox = probe.namespaces.sandbox;
        vec![
            vm("kvm", verdict, reason, remedy),
            vm(
                "tcg",
                if boot_ms(Backend::Qemu, "tcg").is_some() { "works" } else { "untested" },
                Some(slow.to_owned()),
                None,
            ),
            BackendReport {
                backend: Backend::HostSandbox.as_str().to_owned(),
                accelerator: "native".to_owned(),
                verdict: if sandbox { "works".to_owned() } else { "fails".to_owned() },
                reason: Some(if sandbox {
                    "weaker than a virtual machine; used only with --allow-host-compat".to_owned()
                } else {
                    "this user cannot make the namespaces it needs".to_owned()
                }),
                remedy: (!sandbox)
                    .then(|| "allow unprivileged user namespaces, or run pyro as root".to_owned()),
                network: sandbox && backend::sandbox_network_missing(&self.context).is_none(),
                boot_ms: boot_ms(Backend::HostSandbox, "native"),
            },
        ]
    }

    /// Returns what is known of KVM.
    fn kvm(
        &self,
        state: &State,
        probe: &Probe,
        inspections: &[Inspection],
    ) -> (&'static str, Option<String>) {
        if !probe.kvm.exists {
            return ("missing", Some("/dev/kvm is not there".to_owned()));
        }
        if !(probe.kvm.readable && probe.kvm.writable) {
            return (
                "fails",
                Some(
                    "/dev/kvm cannot be opened by this user; membership in the group kvm allows it"
                        .to_owned(),
                ),
            );
        }
        let verdict = inspections.iter().find_map(|inspection| {
            let kernel = &inspection.installed.as_ref().ok()?.manifest().kernel_version;
            let fingerprint = qemu::fingerprint(&self.context.tools, kernel).ok()?;
            backend::kvm_verdict(state, &fingerprint)
        });
        match verdict {
            Some(ProbeVerdict::Works { .. }) => ("works", None),
            Some(ProbeVerdict::Fails { reason }) => ("fails", Some(reason.clone())),
            None => ("untested", Some("the first guest tries it".to_owned())),
        }
    }

    fn runtime(&self, probe: &Probe, inspections: &[Inspection], boots: bool) -> RuntimeReport {
        let path = |tool| probe.tool(tool).map_or_else(String::new, |path| path.display().to_string());
        let agent = &self.context.programs.agent;
        let parts = agent.parent().unwrap_or_else(|| Path::new("/")).display().to_string();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let mut component_versions = BTreeMap::from([
            ("pyro".to_owned(), version.clone()),
            ("kernel".to_owned(), probe.kernel_release.clone()),
        ]);
        component_versions.extend(probe.qemu_version.clone().map(|qemu| ("qemu".to_owned(), qemu)));
        RuntimeReport {
            bundle_root: parts.clone(),
            manifest_path: String::new(),
            firecracker_bin: path(Tool::Firecracker),
            jailer_bin: String::new(),
            guest_agent_path: Some(agent.display().to_string()),
            guest_init_path: None,
            artifacts_dir: parts,
            notice_path: String::new(),
            artifacts_present: agent.exists(),
            bundle_version: version.clone(),
            component_versions,
            capabilities: Capabilities {
                supports_vm_boot: boots,
                supports_guest_exec: boots,
                supports_guest_network: boots,
                reason: (!boots).then(|| "no virtual machine can be booted here".to_owned()),
            },
            catalog_version: version,
            cache_dir: self.context.home.environments().display().to_string(),
            environments: inspections.iter().map(object).collect(),
        }
    }
}

/// Tells whether guests can be run, as far as is known.
fn is_usable(verdict: &str) -> bool {
    verdict == "works" || verdict == "untested"
}

fn networking(probe: &Probe) -> NetworkingReport {
    let path = |tool| probe.tool(tool).map(|path| path.display().to_string());
    NetworkingReport {
        enabled_by_default: false,
        tun_available: probe.tun.exists,
        ip_forward_enabled: probe.ip_forward,
        ip_binary: path(Tool::Ip),
        nft_binary: path(Tool::Nft),
        iptables_binary: path(Tool::Iptables),
    }
}

fn tools(probe: &Probe) -> Vec<ToolReport> {
    let report = |report: &host::ToolReport| ToolReport {
        name: report.tool.binary().to_owned(),
        path: report.path.as_ref().map(|path| path.display().to_string()),
        package: report.tool.source().to_owned(),
    };
    probe.tools.iter().filter(|tool| tool.needed).map(report).collect()
}
