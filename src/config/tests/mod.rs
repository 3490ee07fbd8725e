//! Whole configurations: what is read, what is refused and in which words.

mod example;
mod good;
mod postbacks;
mod refused_destinations;
mod refused_files;
mod refused_values;

use std::ffi::OsString;
use std::path::Path;

use super::findings::Reading;
use super::problem::Report;
use super::snapshot::Snapshot;
use super::validate;
use crate::destination::registry::{Spec, SpecError};
use crate::destination::{Adapter, JudgeContext, Judgement, Kind, Outgoing, Prepared};
use crate::domain::outcome::Verdict;
use crate::domain::secret::Redactor;
use crate::domain::time::UnixMs;
use crate::env::transport::Answer;

pub(super) const NOW: UnixMs = UnixMs(1_764_000_000_000);

/// Stands in for the kinds' own adapters: what matters here ends at the spec, which it keeps.
#[derive(Debug)]
struct Inert {
    kind: Kind,
    redactor: Redactor,
}

impl Adapter for Inert {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn batch_max(&self) -> usize {
        1
    }

    fn default_target(&self, canonical: &str) -> Option<String> {
        (self.kind != Kind::FbCapi).then(|| canonical.to_owned())
    }

    fn prepare(&self, deliveries: &[Outgoing<'_>], _: UnixMs) -> Prepared {
        Prepared { request: None, parts: deliveries.iter().map(|_| Ok(Vec::new())).collect() }
    }

    fn judge(&self, _: &Answer, _: JudgeContext<'_>) -> Judgement {
        Judgement::new(Verdict::Delivered, "")
    }

    fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}

/// Refuses a template with the macro `{bad}`, so that errors of a builder can be seen at their place.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the registry's")]
pub(super) fn inert(spec: Spec) -> Result<Box<dyn Adapter>, Vec<SpecError>> {
    if let Spec::S2sPostback(s2s) = &spec
        && s2s.url_template.contains("{bad}")
    {
        let detail = "holds the unknown macro\n  {bad}; write {uid}".to_owned();
        return Err(vec![SpecError { key: "url_template", detail }]);
    }
    Ok(Box::new(Inert { kind: spec.kind(), redactor: Redactor::default() }))
}

/// The environment of every test here.
pub(super) fn variable(name: &str) -> Option<OsString> {
    match name {
        "TOKEN" => Some(OsString::from("token-from-env\n")),
        "HOOK" => Some(OsString::from("https://hooks.example.com/hunter2")),
        "EMPTY" => Some(OsString::new()),
        "SPACED" => Some(OsString::from("hunter2 hunter2")),
        _ => None,
    }
}

/// A directory with the given files; the first is the configuration. Files are private, so that nothing warns.
pub(super) fn written(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    dir
}

pub(super) fn load(path: &Path) -> Result<(Snapshot, Report), Report> {
    validate::load_with(path, NOW, &variable, &inert)
}

/// A configuration of one file.
pub(super) fn load_text(text: &str) -> Result<(Snapshot, Report), Report> {
    load(&written(&[("c.toml", text.as_bytes())]).path().join("c.toml"))
}

/// What is said about the first of `files`, one finding a line, without the directory's random name.
pub(super) fn said_about(files: &[(&str, &[u8])]) -> String {
    let dir = written(files);
    let path = dir.path().join(files.first().unwrap().0);
    let report = match load(&path) {
        Ok((_, report)) => {
            assert_eq!(report.problems, [], "problems must refuse the configuration");
            report
        }
        Err(report) => {
            assert!(!report.problems.is_empty(), "a refusal must say why");
            report
        }
    };
    let problems = report.problems.iter().map(ToString::to_string);
    let warnings = report.warnings.iter().map(|warning| format!("warning: {warning}"));
    let all: Vec<String> = problems.chain(warnings).collect();
    assert!(!all.iter().any(|line| line.contains("hunter")), "a secret is shown: {all:?}");
    all.join("\n").replace(&format!("{}/", dir.path().display()), "").replace(&dir.path().display().to_string(), "DIR")
}

/// What is said about a configuration that has one source besides `text`.
pub(super) fn said(text: &str) -> String {
    said_about(&[("c.toml", format!("{text}\n[sources.app]\ntoken = \"t-app\"\n").as_bytes())])
}

/// What is said about a destination of these lines; the first of them is line 3.
pub(super) fn said_of_destination(lines: &str) -> String {
    said(&format!("[destinations.one]\nenabled = true\n{lines}"))
}

/// Every key any reader asks for while it reads `path`.
pub(super) fn asked(path: &Path) -> Vec<&'static str> {
    let mut cx = Reading::new(NOW, path.parent().unwrap(), &variable, &inert);
    validate::load_into(path, &mut cx).unwrap();
    cx.asked.into_iter().collect()
}
