//! The demo's own directory and configuration.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::domain::secret::Secret;
use crate::env::entropy::{Entropy, SystemEntropy};

/// A directory that goes with its value.
#[derive(Debug)]
pub struct Workspace {
    dir: PathBuf,
}

/// Where everything listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub daemon: SocketAddr,
    pub crm: SocketAddr,
    pub network: SocketAddr,
    pub meta: SocketAddr,
}

/// The tokens of this one demo.
#[derive(Debug)]
pub struct Tokens {
    pub admin: Secret,
    pub shop: Secret,
}

impl Workspace {
    /// Makes a new directory that nobody else may look into.
    pub fn new() -> io::Result<Self> {
        let dir = std::env::temp_dir().join(format!("postbackd-demo-{}", random_hex()));
        DirBuilder::new().mode(0o700).create(&dir)?;
        Ok(Self { dir })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    pub fn write_config(&self, at: &Addresses, tokens: &Tokens) -> io::Result<()> {
        // JSON text is TOML text too, for anything a path holds.
        let data = Value::from(self.dir.join("data").display().to_string());
        fs::write(self.config(), config_text(&data, at, tokens))
    }

    /// The last lines of the daemon's log.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read(self.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let skip = text.lines().count().saturating_sub(lines);
        text.lines().skip(skip).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What cannot be removed lies in the system's own temporary directory, which is emptied.
        fs::remove_dir_all(&self.dir).ok();
    }
}

impl Tokens {
    pub fn random() -> Self {
        Self { admin: Secret::new(random_hex()), shop: Secret::new(random_hex()) }
    }
}

fn random_hex() -> String {
    format!("{:016x}{:016x}", SystemEntropy.next_u64(), SystemEntropy.next_u64())
}

/// Retries are quick here, so that the story is over soon; in real life the defaults wait longer.
fn config_text(data: &Value, at: &Addresses, tokens: &Tokens) -> String {
    let Addresses { daemon, crm, network, meta } = at;
    let (admin, shop) = (tokens.admin.expose(), tokens.shop.expose());
    format!(
        r#"[server]
listen = "{daemon}"
admin_token = "{admin}"
drain = "5s"

[storage]
path = {data}

[retry]
first = "200ms"
max_delay = "1s"

[sources.shop]
token = "{shop}"

[destinations.crm]
kind = "webhook"
url = "http://{crm}/hook"
allow_private = true

[destinations.network]
kind = "s2s_postback"
url_template = "http://{network}/postback?click={{uid}}&sum={{value}}&tx={{event_id}}&delivery={{delivery_id}}"
allow_private = true

[destinations.meta]
kind = "fb_capi"
pixel_id = "1234567890"
access_token = "{admin}-meta"
base_url = "http://{meta}"
allow_private = true
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_goes_with_its_value() {
        let workspace = Workspace::new().unwrap();
        let dir = workspace.dir().to_owned();
        fs::write(workspace.log(), "1\n2\n3\n").unwrap();
        assert_eq!(workspace.log_tail(2), "2\n3");
        drop(workspace);
        assert!(!dir.exists());
    }

    #[test]
    fn the_configuration_is_toml() {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let at = Addresses { daemon: address, crm: address, network: address, meta: address };
        let text = config_text(&Value::from("/a \"b\""), &at, &Tokens::random());
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["storage"]["path"].as_str(), Some("/a \"b\""));
        assert_eq!(table["destinations"].as_table().unwrap().len(), 3);
    }
}
