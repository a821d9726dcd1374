//! `pyro env`, and the installation that a `run` needs.

use pyro_api::{
    ApiError, ClientMessage, EnvInspectRequest, EnvList, EnvObject, EnvPruneRequest, EnvPullRequest,
    ErrorCode, Progress, PruneResult, PullProgress, PullResult,
};
use pyro_core::{
    Command, EnvironmentInstallFailed, EnvironmentInstalled, EnvironmentName, EnvironmentRemoved, Event,
    RequestId,
};
use pyro_runtime::environment::{Environments, Inspection, Installed, PullError, PullPhase};
use tokio::sync::mpsc;

use super::repeat::{is_met, result_gone};
use super::run::reused;
use super::{Failure, Session};

/// Reports of a pull that wait for a slow client; further ones are left out.
const PROGRESS_LEN: usize = 16;

impl Session {
    pub(super) async fn env_list(&self) -> Result<EnvList, Failure> {
        let inspections = self.on_environments(Environments::list).await;
        let environments: Vec<_> = inspections.iter().map(object).collect();
        Ok(EnvList { catalog_version: env!("CARGO_PKG_VERSION").to_owned(), environments })
    }

    pub(super) async fn env_inspect(&self, request: EnvInspectRequest) -> Result<EnvObject, Failure> {
        let name = environment_name(&request.environment)?;
        Ok(object(&self.on_environments(move |environments| environments.inspect(&name)).await))
    }

    pub(super) async fn env_prune(&self, request: EnvPruneRequest) -> Result<PruneResult, Failure> {
        let known = self.earlier(request.request_id)?;
        if !known.is_empty() {
            let is_same = |event: &Event| matches!(event, Event::EnvironmentRemoved(_));
            if !known.iter().any(|envelope| is_same(&envelope.event) || is_met(&envelope.event, PRUNE)) {
                return Err(reused().into());
            }
            return Ok(pruned(known.iter().map(|envelope| &envelope.event)));
        }
        let removed = self.on_environments(Environments::prune).await.map_err(|error| {
            ApiError::new(ErrorCode::StorageFailed, format!("failed to remove old environments: {error}"))
        })?;
        let facts = removed.iter().map(|path| EnvironmentRemoved { directory: path.display().to_string() });
        let facts = Command::RecordEnvironmentsRemoved(facts.collect());
        let outcome = self.context.engine.submit(facts, self.origin(request.request_id)).await?;
        Ok(pruned(outcome.envelopes().iter().map(|envelope| &envelope.event)))
    }

    pub(super) async fn env_pull(&mut self, request: EnvPullRequest) -> Result<PullResult, Failure> {
        let name = environment_name(&request.environment)?;
        let installed = match self.pulled_before(&name, request.request_id).await? {
            Some(installed) => installed,
            None => self.pull(&name, Some(request.request_id)).await?,
        };
        let inspection = self.on_environments(move |environments| environments.inspect(&name)).await;
        Ok(PullResult {
            environment: object(&inspection),
            kernel_image: installed.vmlinux().display().to_string(),
            rootfs_image: installed.rootfs_image().display().to_string(),
            source: installed.manifest().source.clone(),
        })
    }

    /// Returns what an earlier try of a request to pull came to; `None` when there was none.
    async fn pulled_before(
        &self,
        name: &EnvironmentName,
        request_id: Option<RequestId>,
    ) -> Result<Option<Installed>, Failure> {
        let known = self.earlier(request_id)?;
        let Some(first) = known.first() else { return Ok(None) };
        match &first.event {
            Event::EnvironmentInstalled(event) if event.name == *name => {
                let wanted = name.clone();
                let installed =
                    self.on_environments(move |environments| environments.installed(&wanted)).await;
                let gone = |reason| {
                    result_gone(format_args!("{name} was installed, and is not there now: {reason}"))
                };
                Ok(Some(installed.map_err(gone)?))
            }
            Event::EnvironmentInstallFailed(event) if event.name == *name => {
                Err(ApiError::new(ErrorCode::EnvironmentUnavailable, &event.reason).into())
            }
            _ => Err(reused().into()),
        }
    }

    /// Returns the installation that a guest can boot from, making it first when there is none.
    pub(super) async fn installed(&mut self, name: &EnvironmentName) -> Result<Installed, Failure> {
        let wanted = name.clone();
        match self.on_environments(move |environments| environments.installed(&wanted)).await {
            Ok(installed) => Ok(installed),
            Err(reason) => {
                tracing::info!(%name, %reason, "pulling");
                self.pull(name, None).await
            }
        }
    }

    /// Installs. `asked` is there when somebody asked for this and nothing else, with the id of the request.
    async fn pull(
        &mut self,
        name: &EnvironmentName,
        asked: Option<Option<RequestId>>,
    ) -> Result<Installed, Failure> {
        let (sender, mut reports) = mpsc::channel(PROGRESS_LEN);
        let pull = self.context.environments.pull(name, &self.context.programs.agent, move |report| {
            // The next report says more than the one that is left out here.
            let _left_out = sender.try_send(report);
        });
        let mut pull = Box::pin(pull);
        let pulled = loop {
            tokio::select! {
                pulled = &mut pull => break pulled,
                Some(report) = reports.recv() => {
                    let progress = PullProgress {
                        environment: name.to_string(),
                        phase: phase_word(report.phase).to_owned(),
                        fraction: report.fraction.map(f64::from),
                        detail: report.detail,
                    };
                    self.peer.progress(Progress::Pull(progress)).await?;
                }
                // Dropping the pull ends its programs and removes what it made.
                message = self.peer.next() => match message {
                    Some(Ok(ClientMessage::Cancel) | Err(_)) | None => break Err(PullError::Cancelled),
                    Some(Ok(
                        ClientMessage::Hello(_)
                        | ClientMessage::Request(_)
                        | ClientMessage::Input(_)
                        | ClientMessage::Resize(_),
                    )) => {}
                },
                () = self.context.stopping.cancelled() => break Err(PullError::Cancelled),
            }
        };
        drop(pull);
        self.record_pull(name, &pulled, asked).await?;
        Ok(pulled.map_err(|error| pull_error(&error))?)
    }

    async fn record_pull(
        &self,
        name: &EnvironmentName,
        pulled: &Result<Installed, PullError>,
        asked: Option<Option<RequestId>>,
    ) -> Result<(), Failure> {
        let state = self.context.engine.state();
        let version = pyro_core::CATALOG
            .iter()
            .find(|entry| entry.name == name.as_str())
            .map_or("", |entry| entry.version);
        let command = match pulled {
            Ok(installed) => {
                let fact = EnvironmentInstalled {
                    name: name.clone(),
                    version: version.to_owned(),
                    source: installed.manifest().source.clone(),
                    manifest_digest: installed.manifest_digest().to_owned(),
                };
                // A request is on record in any case, so that a repetition is known.
                if asked.is_none() && state.environments.get(name) == Some(&fact) {
                    return Ok(());
                }
                Command::RecordEnvironmentInstalled(fact)
            }
            Err(error) => Command::RecordEnvironmentInstallFailed(EnvironmentInstallFailed {
                name: name.clone(),
                version: version.to_owned(),
                reason: chain(error),
            }),
        };
        self.context.engine.submit(command, self.origin(asked.flatten())).await?;
        Ok(())
    }

    /// Looks at the environments where blocking is allowed.
    async fn on_environments<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Environments) -> T + Send + 'static,
    ) -> T {
        let environments = self.context.environments.clone();
        tokio::task::spawn_blocking(move || look(&environments))
            .await
            .expect("a look at files does not panic")
    }
}

/// The wish of a request to prune.
const PRUNE: &str = "prune_environments";

fn pruned<'a>(events: impl Iterator<Item = &'a Event>) -> PruneResult {
    let directories = events.filter_map(|event| match event {
        Event::EnvironmentRemoved(event) => Some(event.directory.clone()),
        _ => None,
    });
    let deleted_environment_dirs: Vec<_> = directories.collect();
    PruneResult { count: deleted_environment_dirs.len() as u64, deleted_environment_dirs }
}

pub(super) fn environment_name(text: &str) -> Result<EnvironmentName, ApiError> {
    text.parse().map_err(|rejection: pyro_core::Rejection| {
        ApiError::from(rejection).with_hint("`pyro env list` shows the environments")
    })
}

pub(super) fn object(inspection: &Inspection) -> EnvObject {
    let entry = inspection.entry;
    EnvObject {
        name: entry.name.to_owned(),
        version: entry.version.to_owned(),
        description: entry.description.to_owned(),
        distribution: inspection.distribution.to_owned(),
        distribution_version: inspection.distribution_version.to_owned(),
        platform: inspection.platform.to_owned(),
        compatibility: inspection.compatibility.clone(),
        catalog_version: inspection.catalog_version.to_owned(),
        default_packages: entry.default_packages.iter().map(|package| (*package).to_owned()).collect(),
        cache_dir: inspection.cache_dir.display().to_string(),
        install_dir: inspection.install_dir.display().to_string(),
        oci_registry: None,
        oci_repository: None,
        oci_reference: None,
        source_digest: None,
        installed: inspection.installed.is_ok(),
        install_manifest: inspection
            .installed
            .as_ref()
            .ok()
            .map(|installed| installed.manifest_path().display().to_string()),
    }
}

const fn phase_word(phase: PullPhase) -> &'static str {
    match phase {
        PullPhase::Waiting => "waiting",
        PullPhase::Checking => "checking",
        PullPhase::Packages => "packages",
        PullPhase::Kernel => "kernel",
        PullPhase::Image => "image",
        PullPhase::Verify => "verify",
        PullPhase::Ready => "ready",
    }
}

fn pull_error(error: &PullError) -> ApiError {
    let code = match error {
        PullError::MissingTool(_) | PullError::MissingFile { .. } => ErrorCode::ToolMissing,
        PullError::Cancelled => ErrorCode::Canceled,
        PullError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            ErrorCode::StorageFull
        }
        PullError::ToolFailed { .. }
        | PullError::Io { .. }
        | PullError::Package(_)
        | PullError::Kernel(_)
        | PullError::Modules(_)
        | PullError::Damaged(_) => ErrorCode::EnvironmentUnavailable,
    };
    ApiError::new(code, chain(error))
}

/// Returns an error with all that caused it, as one sentence.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
