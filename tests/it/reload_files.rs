//! Every way in which the files of a configuration change, and every way in which they can be unreadable (SPEC 8, 8.2; rows
//! 66 and 71 of the fault catalogue).

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::desk::{deposit, settled, webhook};
use crate::support::reload::{configured, in_force, refused, replace, soon_in_force, text};
use crate::support::sink::Sink;

const NOWHERE: &str = "http://127.0.0.1:9/";

/// A daemon without destinations whose configuration is at `path` below its directory, and the text of it.
async fn start_at(path: &str, arrange: impl FnOnce(&Path, &str)) -> (Daemon, String) {
    let mut daemon = Daemon::prepare("", "");
    let text = text(&daemon);
    fs::remove_file(daemon.config()).unwrap();
    let root = daemon.path("");
    arrange(&root, &text);
    daemon.set_config(root.join(path));
    daemon.restart().await;
    // The look at the start is over.
    crate::support::reload::reload(&daemon).await;
    (daemon, text)
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Makes `link` point elsewhere the way careful tools do: a new link, renamed over.
fn swap(link: &Path, target: &str) {
    let beside = link.parent().unwrap().join(".swap");
    symlink(target, &beside).unwrap();
    fs::rename(beside, link).unwrap();
}

fn to(name: &str) -> String {
    webhook(name, NOWHERE, "")
}

/// Row 71: whoever never runs `check` learns it from the log, at the start and whenever it is read again.
#[tokio::test]
async fn secrets_that_every_user_may_read_stand_in_the_log_once_for_each_reading() {
    let mut daemon = Daemon::prepare("", "");
    fs::set_permissions(daemon.config(), fs::Permissions::from_mode(0o644)).unwrap();
    let log = daemon.path("log");
    daemon.set_log(log.clone());
    daemon.restart().await;
    let told = || fs::read_to_string(&log).unwrap().matches("may be read by other users").count();
    // The look at the start is over when a reload is answered.
    crate::support::reload::reload(&daemon).await;
    assert_eq!(told(), 2, "{}", fs::read_to_string(&log).unwrap());
    fs::set_permissions(daemon.config(), fs::Permissions::from_mode(0o600)).unwrap();
    crate::support::reload::reload(&daemon).await;
    crate::support::reload::reload(&daemon).await;
    assert_eq!(told(), 2, "what is mended is not told: {}", fs::read_to_string(&log).unwrap());
}

/// Row 66: rename, in-place write.
#[tokio::test]
async fn a_file_that_is_written_or_renamed_over_is_seen_every_time() {
    let (daemon, base) = start_at("etc/c.toml", |root, text| write(&root.join("etc/c.toml"), text)).await;
    let file = daemon.config();
    for (name, save) in [
        ("written", (|path, text| fs::write(path, text).unwrap()) as fn(&Path, &str)),
        ("renamed", replace),
        ("renamed-again", replace),
        ("written-again", |path, text| fs::write(path, text).unwrap()),
        ("removed-and-made", |path, text| {
            fs::remove_file(path).unwrap();
            fs::write(path, text).unwrap();
        }),
        ("backed-up", |path, text| {
            fs::rename(path, path.with_extension("toml~")).unwrap();
            fs::write(path, text).unwrap();
        }),
        ("linked", |path, text| {
            let beside = path.with_extension("link");
            fs::write(&beside, text).unwrap();
            fs::remove_file(path).unwrap();
            fs::hard_link(beside, path).unwrap();
        }),
    ] {
        save(&file, &(base.clone() + &to(name)));
        soon_in_force(&daemon, &[name]).await;
    }
}

/// Row 66: a file that is half there. Where the half would be refused, what was in force before is all the time; the
/// writer takes longer than anybody would wait.
#[tokio::test]
async fn half_a_file_is_not_applied() {
    let sink = Sink::with_status(200).await;
    let daemon = Daemon::start(&webhook("old", &sink.url("/"), "")).await;
    let whole = text(&daemon) + &to("new");
    let half = whole.find("url = \"http://127.0.0.1:9").unwrap() + 8;
    fs::write(daemon.config(), whole.split_at(half).0).unwrap();
    let status = refused(&daemon, "is not TOML").await;
    assert_eq!(configured(&status), ["old"]);
    deposit(&daemon, "between").await;
    settled(&daemon, &[("accepted", 1), ("sent", 1)]).await;
    fs::write(daemon.config(), &whole).unwrap();
    soon_in_force(&daemon, &["new", "old"]).await;

    // A writer that pauses for less than the time between two looks is not even noticed.
    for _ in 0..20 {
        let (mut errors, mut slowest) = (Vec::new(), Duration::ZERO);
        for part in 1..=4 {
            let written = Instant::now();
            fs::write(daemon.config(), whole.split_at(whole.len() * part / 4).0).unwrap();
            errors.push(daemon.get("/status").await.json()["config"]["error"].clone());
            tokio::time::sleep(Duration::from_millis(50)).await;
            slowest = slowest.max(written.elapsed());
        }
        in_force(&daemon, &["new", "old"]).await;
        // On a busy machine the writer itself may take longer.
        if slowest < Duration::from_millis(120) {
            assert!(errors.iter().all(serde_json::Value::is_null), "{errors:?}");
            return;
        }
    }
    panic!("this machine is too slow to write four times within half a second");
}

/// Row 66: symlink swap of the file, and its target edited in either way.
#[tokio::test]
async fn a_symbolic_link_that_is_swapped_or_whose_target_changes_is_seen() {
    let (daemon, base) = start_at("etc/c.toml", |root, text| {
        write(&root.join("versions/1/c.toml"), text);
        fs::create_dir(root.join("etc")).unwrap();
        symlink("../versions/1/c.toml", root.join("etc/c.toml")).unwrap();
    })
    .await;
    let with = |name: &str| base.clone() + &to(name);
    let root = daemon.path("");
    fs::write(root.join("versions/1/c.toml"), with("edited")).unwrap();
    soon_in_force(&daemon, &["edited"]).await;
    replace(&root.join("versions/1/c.toml"), &with("replaced"));
    soon_in_force(&daemon, &["replaced"]).await;
    write(&root.join("versions/2/c.toml"), &with("swapped"));
    swap(&daemon.config(), "../versions/2/c.toml");
    soon_in_force(&daemon, &["swapped"]).await;
    fs::write(root.join("versions/2/c.toml"), with("edited-again")).unwrap();
    soon_in_force(&daemon, &["edited-again"]).await;
    swap(&daemon.config(), "../versions/1/c.toml");
    soon_in_force(&daemon, &["replaced"]).await;
    fs::remove_file(daemon.config()).unwrap();
    fs::write(daemon.config(), with("no-link")).unwrap();
    soon_in_force(&daemon, &["no-link"]).await;
}

/// Row 66: symlink swap of the directory.
#[tokio::test]
async fn a_directory_that_is_a_swapped_link_is_seen() {
    let (daemon, base) = start_at("current/conf/c.toml", |root, text| {
        write(&root.join("releases/1/conf/c.toml"), text);
        symlink("releases/1", root.join("current")).unwrap();
    })
    .await;
    let root = daemon.path("");
    for n in 2..5 {
        let name = format!("release-{n}");
        write(&root.join(format!("releases/{n}/conf/c.toml")), &(base.clone() + &to(&name)));
        swap(&root.join("current"), &format!("releases/{n}"));
        soon_in_force(&daemon, &[&name]).await;
    }
    fs::write(root.join("current/conf/c.toml"), base.clone() + &to("edited")).unwrap();
    soon_in_force(&daemon, &["edited"]).await;
}

/// Row 66: as Kubernetes mounts a `ConfigMap`: c.toml -> ..data/c.toml, ..data -> ..time.
#[tokio::test]
async fn a_mounted_config_map_is_seen() {
    let (daemon, base) = start_at("mnt/c.toml", |root, text| {
        write(&root.join("mnt/..1/c.toml"), text);
        symlink("..1", root.join("mnt/..data")).unwrap();
        symlink("..data/c.toml", root.join("mnt/c.toml")).unwrap();
    })
    .await;
    let mount = daemon.path("mnt");
    for n in 2..5 {
        let name = format!("map-{n}");
        write(&mount.join(format!("..{n}/c.toml")), &(base.clone() + &to(&name)));
        swap(&mount.join("..data"), &format!("..{n}"));
        fs::remove_dir_all(mount.join(format!("..{}", n - 1))).unwrap();
        soon_in_force(&daemon, &[&name]).await;
    }
}

/// A directory that is replaced as a whole is seen by the poll at the latest.
#[tokio::test]
async fn a_directory_that_is_replaced_is_seen_by_looking() {
    let (daemon, base) = start_at("etc/c.toml", |root, text| write(&root.join("etc/c.toml"), text)).await;
    let root = daemon.path("");
    for name in ["first", "second"] {
        write(&root.join("next/c.toml"), &(base.clone() + &to(name)));
        fs::rename(root.join("etc"), root.join(format!("before-{name}"))).unwrap();
        fs::rename(root.join("next"), root.join("etc")).unwrap();
        in_force(&daemon, &[name]).await;
    }
}

/// Row 66: `include` files added, edited and removed, in a directory that appears later.
#[tokio::test]
async fn included_files_come_and_go() {
    let (daemon, base) = start_at("c.toml", |root, text| write(&root.join("c.toml"), text)).await;
    fs::write(daemon.config(), format!("include = [\"d/*.toml\", \"d/one-more.conf\"]\n{base}")).unwrap();
    refused(&daemon, "does not exist").await;
    let dir = daemon.path("d");
    write(&dir.join("one-more.conf"), "");
    in_force(&daemon, &[]).await;
    fs::write(dir.join("a.toml"), to("a")).unwrap();
    soon_in_force(&daemon, &["a"]).await;
    replace(&dir.join("b.toml"), &to("b"));
    soon_in_force(&daemon, &["a", "b"]).await;
    replace(&dir.join("b.toml"), &to("b2"));
    soon_in_force(&daemon, &["a", "b2"]).await;
    fs::write(dir.join("c.toml"), to("a")).unwrap();
    let status = refused(&daemon, "").await;
    assert_eq!(configured(&status), ["a", "b2"], "a name given twice is refused");
    assert!(status["config"]["error"].to_string().contains("c.toml"), "{}", status["config"]);
    fs::remove_file(dir.join("a.toml")).unwrap();
    soon_in_force(&daemon, &["a", "b2"]).await;
    symlink("../elsewhere.toml", dir.join("link.toml")).unwrap();
    refused(&daemon, "does not exist").await;
    fs::write(daemon.path("elsewhere.toml"), to("linked")).unwrap();
    in_force(&daemon, &["a", "b2", "linked"]).await;
    fs::remove_dir_all(&dir).unwrap();
    refused(&daemon, "does not exist").await;
    fs::write(daemon.config(), &base).unwrap();
    soon_in_force(&daemon, &[]).await;
}

/// Row 71: what is read from a secret's file is what holds, without the line end; what cannot be read changes nothing.
#[tokio::test]
async fn a_secret_whose_file_changes_is_rotated() {
    let sink = Sink::with_status(200).await;
    let mut daemon = Daemon::prepare("", "");
    let keys = "headers = { \"X-Key\" = { file = \"secrets/key\" } }\nsigning_secrets = [{ file = \"secrets/sign\" }]";
    let edited = text(&daemon).replace("token = \"app-token-0123456789\"", "token = { file = \"secrets/token\" }")
        + &webhook("hook", &sink.url("/"), keys);
    fs::write(daemon.config(), edited).unwrap();
    let secret = |name: &str, value: &[u8]| -> PathBuf {
        let path = daemon.path("secrets").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, value).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    secret("token", b"app-token-0123456789\r\n");
    secret("key", b"canary-one\n");
    secret("sign", b"whsec_Y2FuYXJ5LXNpZ25pbmctc2VjcmV0");
    let (token, key) = (daemon.path("secrets/token"), daemon.path("secrets/key"));
    daemon.restart().await;
    deposit(&daemon, "1").await;
    assert_eq!(sink.wait_for(1).await[0].header("x-key"), Some("canary-one"));
    let signature = sink.seen()[0].header("webhook-signature").unwrap().to_owned();

    fs::write(&key, "canary-two\n").unwrap();
    fs::write(daemon.path("secrets/sign"), "whsec_Y2FuYXJ5LXNpZ25pbmctc2VjcmV1").unwrap();
    // Nothing shows a secret: that it is in force is told by what arrives.
    let mut count = 1;
    loop {
        count += 1;
        deposit(&daemon, &count.to_string()).await;
        let seen = sink.wait_for(count).await;
        if seen[count - 1].header("x-key") == Some("canary-two") {
            assert_ne!(seen[count - 1].header("webhook-signature"), Some(signature.as_str()));
            break;
        }
        assert!(count < 300, "the key is not rotated");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (bad, word) in [
        (&b""[..], "is empty"),
        (b"\n\n", "is empty"),
        (b"\xff\xfe", "UTF-8"),
        (b"two words", "space"),
        (b"a\0b", "NUL"),
    ] {
        replace(&token, &String::from_utf8_lossy(b""));
        fs::write(&token, bad).unwrap();
        let status = refused(&daemon, word).await;
        assert!(!status.to_string().contains("two words"), "never shown: {status}");
        deposit(&daemon, word).await;
    }
    fs::remove_file(&token).unwrap();
    let status = refused(&daemon, "does not exist").await;
    assert_eq!(status["config"]["error"]["problems"][0]["key"], json!("sources.app.token"));
    fs::write(&token, "app-token-two").unwrap();
    in_force(&daemon, &["hook"]).await;
    let event = json!({ "event": "deposit", "event_id": "with-the-old-token" }).to_string();
    assert_eq!(daemon.post("/v1/events", &event).await.status, 401);
    let shown = daemon.get("/status").await.text() + &daemon.get("/v1/deliveries").await.text();
    assert!(!shown.contains("canary") && !shown.contains("app-token"), "{shown}");
}

/// Makes something of a path that is no configuration.
type Spoil = fn(&Path);

/// Row 66: deleted, emptied, chmod 000, directory, FIFO, a sparse gigabyte, not UTF-8, a loop of links.
#[tokio::test]
async fn a_file_that_cannot_be_read_hangs_nothing_and_the_last_good_one_goes_on() {
    let sink = Sink::with_status(200).await;
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"), "")).await;
    let good = text(&daemon);
    let file = daemon.config();
    let cases: [(&str, Spoil); 9] = [
        ("does not exist", |_| {}),
        ("is empty", |path| fs::write(path, "").unwrap()),
        ("is empty", |path| fs::write(path, "# nothing\n\n").unwrap()),
        ("is a directory", |path| fs::create_dir(path).unwrap()),
        ("not a regular file", |path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap()),
        ("is larger than", |path| fs::File::create(path).unwrap().set_len(1 << 30).unwrap()),
        ("is not UTF-8", |path| fs::write(path, b"[server]\nlisten = \"\xff\"\n").unwrap()),
        ("without end", |path| symlink("config.toml", path).unwrap()),
        ("not a regular file", |path| symlink("/dev/zero", path).unwrap()),
    ];
    for (n, (word, make)) in cases.into_iter().enumerate() {
        fs::remove_file(&file).unwrap();
        make(&file);
        let status = refused(&daemon, word).await;
        assert_eq!((&status["state"], configured(&status)), (&json!("degraded"), vec!["hook".to_owned()]), "{word}");
        deposit(&daemon, &n.to_string()).await;
        sink.wait_for(n + 1).await;
        assert_eq!(daemon.post("/v1/reload", "").await.status, 422, "{word}");
        let cli = daemon.cli(&["reload", "--url", &format!("http://127.0.0.1:{}", daemon.port)], "").await;
        assert_eq!(cli.code, 1, "{word}: {cli:?}");
        if file.is_dir() && !file.is_symlink() {
            fs::remove_dir(&file).unwrap();
        } else {
            fs::remove_file(&file).ok();
        }
        fs::write(&file, &good).unwrap();
        let mended = in_force(&daemon, &["hook"]).await;
        assert_eq!(mended["state"], "ok", "{word}");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let may_read = fs::File::open(&file).is_ok();
    let answer = daemon.post("/v1/reload", "").await;
    // Root may read it all the same.
    assert_eq!(answer.status, if may_read { 200 } else { 422 }, "{}", answer.text());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(in_force(&daemon, &["hook"]).await["state"], "ok");
    deposit(&daemon, "last").await;
    settled(&daemon, &[("accepted", 10), ("sent", 10)]).await;
}
