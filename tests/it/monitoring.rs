//! The files for Prometheus, Grafana and Debian: what they name exists, and what exists is documented.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::desk::{accept, settled, webhook};
use crate::support::sink::Sink;

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every `postbackd_…` that stands in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let part_of_a_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(|letter| !part_of_a_name(letter)).filter(|word| word.starts_with("postbackd_")).collect()
}

/// Names and values of labels that stand in a text as `name="value"`, or `name=~"one|two"`.
fn labels(text: &str) -> BTreeSet<(String, String)> {
    let label = regex::Regex::new(r#"([a-z]+)!?=~?"([^"]*)""#).unwrap();
    label
        .captures_iter(text)
        .flat_map(|found| {
            let (name, values) = (found[1].to_owned(), found[2].to_owned());
            values.split('|').map(|value| (name.clone(), value.to_owned())).collect::<Vec<_>>()
        })
        .collect()
}

/// What `/metrics` of a daemon with some traffic shows: the name of every sample.
async fn scraped() -> String {
    let sink = Sink::with_status(200).await;
    let channel =
        format!("[alerts.channels.ops]\nkind = \"webhook\"\nurl = \"{}\"\nallow_private = true\n", sink.url("/ops"));
    let daemon = Daemon::start(&[webhook("crm", &sink.url("/"), ""), channel].concat()).await;
    accept(&daemon, serde_json::json!({ "event": "deposit", "event_id": "1" })).await;
    settled(&daemon, &[("sent", 1)]).await;
    daemon.get("/metrics").await.text()
}

/// A histogram's samples are documented by its own name.
fn series(sample: &str) -> &str {
    let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| sample.strip_suffix(end));
    base.unwrap_or(sample)
}

#[tokio::test]
async fn rules_dashboard_and_documentation_name_what_there_is() {
    let text = scraped().await;
    let samples: String = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let real = names(&samples);
    assert!(real.len() > 15, "{real:?}");
    let (rules, dashboard) = (file("systemd/prometheus-alerts.yml"), file("systemd/grafana-dashboard.json"));
    for (what, named) in [("the rules", names(&rules)), ("the dashboard", names(&dashboard))] {
        assert!(named.len() > 5, "{what}: {named:?}");
        let is_real = |name: &&&str| real.contains(**name) || real.iter().any(|sample| series(sample) == **name);
        let unknown: Vec<_> = named.iter().filter(|name| !is_real(name)).collect();
        assert!(unknown.is_empty(), "{what} name {unknown:?}; there is {real:?}");
    }
    let readme = file("README.md");
    let (_, chapter) = readme.split_once("\n## Monitoring\n").expect("a chapter");
    let chapter = chapter.split("\n## ").next().unwrap();
    let documented: BTreeSet<_> = names(chapter).iter().map(|name| series(name)).collect();
    let real: BTreeSet<_> = real.iter().map(|name| series(name)).collect();
    assert_eq!(documented, real, "left: the README's chapter, right: /metrics");
}

#[tokio::test]
async fn rules_and_dashboard_ask_for_labels_that_there_are() {
    const VERDICTS: [&str; 9] = [
        "delivered",
        "transient",
        "throttled",
        "permanent",
        "destination_fault",
        "batch_fault",
        "ambiguous",
        "proxy_fault",
        "cancelled",
    ];
    let real = labels(&scraped().await);
    let dashboard: Value = serde_json::from_str(&file("systemd/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let asked: Vec<String> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .chain([file("systemd/prometheus-alerts.yml")])
        .collect();
    for (name, value) in asked.iter().flat_map(|text| labels(text)) {
        let known = match name.as_str() {
            "verdict" => VERDICTS.contains(&value.as_str()),
            "state" | "status" | "outcome" => real.contains(&(name.clone(), value.clone())),
            // Templates of the dashboard, and Prometheus' own.
            "destination" => value == "$destination",
            "job" => value == "postbackd",
            _ => false,
        };
        assert!(known, "{name}=\"{value}\" is no label of ours");
    }
}

#[test]
fn the_package_names_files_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table = file("Cargo.toml").parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let script = file("systemd/package.sh");
    for asset in deb["assets"].as_array().unwrap() {
        let source = asset[0].as_str().unwrap();
        let there = match source.strip_prefix("target/") {
            None => root.join(source).is_file(),
            Some("release/postbackd") => true,
            Some(made) => script.contains(&format!("target/{}", made.trim_end_matches("/*.1"))),
        };
        assert!(there, "{source} is neither in the repository nor made by systemd/package.sh");
    }
    let mode = |dest: &str| {
        let assets = deb["assets"].as_array().unwrap();
        let asset = assets.iter().find(|asset| asset[1].as_str() == Some(dest)).unwrap();
        asset[2].as_str().unwrap().to_owned()
    };
    assert_eq!(mode("etc/postbackd/config.toml"), "644", "the unit's made-up user has to read it");
    let unit = &deb["systemd-units"][0];
    let units = root.join(unit["unit-scripts"].as_str().unwrap());
    for kind in ["service", "socket"] {
        assert!(units.join(format!("{}.{kind}", unit["unit-name"].as_str().unwrap())).is_file(), "{kind}");
    }
    assert_eq!(unit["start"].as_bool(), Some(false), "nothing starts before it is configured");
}
