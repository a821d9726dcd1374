//! `pyro doctor`

use std::fmt::Write as _;
use std::process::ExitCode;

use pyro_api::{BackendReport, DoctorReport, DoctorRequest, RuntimeReport, ToolReport};

use super::print;
use crate::arguments::WithFormat;
use crate::exit::{Failure, Format};
use crate::sanitize;
use crate::session::Session;

pub(crate) fn execute(args: WithFormat<DoctorRequest>) -> Result<ExitCode, Failure> {
    let report = Session::starting()?.call(args.request)?;
    print(&report, Format::from_flag(args.format.json), text)
}

const fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn text(report: &DoctorReport) -> String {
    let mut text = String::new();
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        writeln!(text, "{}", sanitize::line(&arguments.to_string())).expect("a string takes everything");
    };
    line(format_args!("Platform: {}", report.platform));
    line(format_args!("Runtime: {}", if report.runtime_ok { "PASS" } else { "FAIL" }));
    let kvm = report.kvm;
    line(format_args!(
        "KVM: exists={} readable={} writable={}",
        yes(kvm.exists),
        yes(kvm.readable),
        yes(kvm.writable)
    ));
    if let Some(runtime) = &report.runtime {
        runtime_lines(runtime, &mut line);
    }
    let networking = &report.networking;
    line(format_args!(
        "Networking: tun={} ip_forward={}",
        yes(networking.tun_available),
        yes(networking.ip_forward_enabled)
    ));
    line(format_args!("Guests: {}", guests(report)));
    for backend in &report.backends {
        line(format_args!("  {}", backend_line(backend)));
    }
    line(format_args!("Tools: {}", tools(&report.tools)));
    if !report.issues.is_empty() {
        line(format_args!("Issues:"));
        for issue in &report.issues {
            line(format_args!("- {issue}"));
        }
    }
    text
}

fn runtime_lines(runtime: &RuntimeReport, line: &mut dyn FnMut(std::fmt::Arguments<'_>)) {
    line(format_args!("Environment cache: {}", runtime.cache_dir));
    let capabilities = &runtime.capabilities;
    line(format_args!(
        "Capabilities: vm_boot={} guest_exec={} guest_network={}",
        yes(capabilities.supports_vm_boot),
        yes(capabilities.supports_guest_exec),
        yes(capabilities.supports_guest_network)
    ));
}

fn guests(report: &DoctorReport) -> String {
    let mut text = match (&report.backend, &report.accelerator) {
        (Some(backend), Some(accelerator)) => format!("{backend} with {accelerator}"),
        (Some(backend), None) => backend.clone(),
        (None, _) if report.runtime_ok && sandbox_works(report) => {
            return "only with --allow-host-compat".to_owned();
        }
        (None, _) => return "none can be run on this host".to_owned(),
    };
    if let Some(boot_ms) = report.last_boot_ms {
        write!(text, "; the last boot took {boot_ms} ms").expect("a string takes everything");
    }
    text
}

fn sandbox_works(report: &DoctorReport) -> bool {
    report.backends.iter().any(|backend| backend.backend == "host_sandbox" && backend.verdict == "works")
}

fn tools(tools: &[ToolReport]) -> String {
    let missing: Vec<_> =
        tools.iter().filter(|tool| tool.path.is_none()).map(|tool| tool.name.as_str()).collect();
    let found = tools.len() - missing.len();
    if missing.is_empty() {
        return format!("{found} of {found} found");
    }
    format!("{found} of {} found; missing: {}", tools.len(), missing.join(", "))
}

fn backend_line(backend: &BackendReport) -> String {
    let name = format!("{}/{}", backend.backend, backend.accelerator);
    let mut text = format!("{name:<20} {}", backend.verdict);
    if let Some(boot_ms) = backend.boot_ms {
        write!(text, ", booted in {boot_ms} ms").expect("a string takes everything");
    }
    if backend.verdict == "works" && !backend.network {
        text.push_str(", without a network");
    }
    for more in [&backend.reason, &backend.remedy].into_iter().flatten() {
        write!(text, "; {more}").expect("a string takes everything");
    }
    text
}
