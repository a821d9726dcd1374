//! `pyro env`

use std::fmt::Write as _;
use std::process::ExitCode;

use pyro_api::{
    EnvInspectRequest, EnvList, EnvListRequest, EnvObject, EnvPruneRequest, EnvPullRequest, Incoming,
    Progress, PruneResult, PullResult,
};

use super::print;
use crate::arguments::EnvCommand;
use crate::exit::{Failure, Format};
use crate::pull_view::PullView;
use crate::sanitize;
use crate::session::Session;
use crate::sink::Sink;

pub(crate) fn execute(command: EnvCommand) -> (Format, Result<ExitCode, Failure>) {
    match command {
        EnvCommand::List(flag) => with(Format::from_flag(flag.json), list),
        EnvCommand::Pull(args) => {
            with(Format::from_flag(args.format.json), |format| pull(args.request, format))
        }
        EnvCommand::Inspect(args) => {
            with(Format::from_flag(args.format.json), |format| inspect(args.request, format))
        }
        EnvCommand::Prune(flag) => with(Format::from_flag(flag.json), prune),
    }
}

fn with(
    format: Format,
    command: impl FnOnce(Format) -> Result<ExitCode, Failure>,
) -> (Format, Result<ExitCode, Failure>) {
    (format, command(format))
}

fn list(format: Format) -> Result<ExitCode, Failure> {
    print(&Session::starting()?.call(EnvListRequest {})?, format, list_text)
}

fn inspect(request: EnvInspectRequest, format: Format) -> Result<ExitCode, Failure> {
    print(&Session::starting()?.call(request)?, format, |object| object_text("Environment", object))
}

fn prune(format: Format) -> Result<ExitCode, Failure> {
    print(&Session::starting()?.call(EnvPruneRequest::default())?, format, prune_text)
}

fn pull(request: EnvPullRequest, format: Format) -> Result<ExitCode, Failure> {
    let session = Session::starting()?;
    if format == Format::Json {
        return print(&session.call(request)?, format, pull_text);
    }
    let mut stderr = Sink::stderr()?;
    let mut view = PullView::new(&request.environment, &mut stderr)?;
    let mut shown = Ok(());
    let result = session.call_observing(request, |incoming| {
        if let Incoming::Progress(Progress::Pull(progress)) = incoming
            && shown.is_ok()
        {
            shown = view.update(&progress, &mut stderr);
        }
    })?;
    shown?;
    view.ready(&mut stderr)?;
    print(&result, format, pull_text)
}

fn list_text(list: &EnvList) -> String {
    let mut text = format!("Catalog version: {}\n", sanitize::line(&list.catalog_version));
    for object in &list.environments {
        let state = if object.installed { "installed" } else { "not installed" };
        push(&mut text, format_args!("{} [{state}] {}", cell(&object.name), cell(&object.description)));
    }
    text
}

/// Returns the lines about an environment, of which the first has the given label.
fn object_text(label: &str, object: &EnvObject) -> String {
    let mut text = String::new();
    push(&mut text, format_args!("{label}: {}", cell(&object.name)));
    push(&mut text, format_args!("Version: {}", cell(&object.version)));
    push(
        &mut text,
        format_args!("Distribution: {} {}", cell(&object.distribution), cell(&object.distribution_version)),
    );
    push(&mut text, format_args!("Installed: {}", if object.installed { "yes" } else { "no" }));
    push(&mut text, format_args!("Cache dir: {}", cell(&object.cache_dir)));
    push(&mut text, format_args!("Default packages: {}", cell(&object.default_packages.join(", "))));
    push(&mut text, format_args!("Description: {}", cell(&object.description)));
    if object.installed {
        push(&mut text, format_args!("Install dir: {}", cell(&object.install_dir)));
    }
    if let Some(manifest) = &object.install_manifest {
        push(&mut text, format_args!("Install manifest: {}", cell(manifest)));
    }
    if let (Some(registry), Some(repository), Some(reference)) =
        (&object.oci_registry, &object.oci_repository, &object.oci_reference)
    {
        push(
            &mut text,
            format_args!("OCI source: {}/{}:{}", cell(registry), cell(repository), cell(reference)),
        );
    }
    text
}

fn pull_text(result: &PullResult) -> String {
    let mut text = object_text("Pulled", &result.environment);
    push(&mut text, format_args!("Kernel image: {}", cell(&result.kernel_image)));
    push(&mut text, format_args!("Rootfs image: {}", cell(&result.rootfs_image)));
    push(&mut text, format_args!("Source: {}", cell(&result.source)));
    text
}

fn prune_text(result: &PruneResult) -> String {
    let noun = if result.count == 1 { "entry" } else { "entries" };
    let mut text = format!("Deleted {} cached environment {noun}.\n", result.count);
    for directory in &result.deleted_environment_dirs {
        push(&mut text, format_args!("- {}", cell(directory)));
    }
    text
}

fn cell(text: &str) -> String {
    sanitize::line(text)
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes everything");
}
