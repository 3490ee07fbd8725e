//! Style sheet, script and icon: part of the binary, served under names that change with their content, so that a
//! browser may keep them for good.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::http::problem::Problem;

struct Asset {
    path: String,
    kind: &'static str,
    text: &'static str,
}

impl Asset {
    fn new(name: &str, ending: &str, kind: &'static str, text: &'static str) -> Self {
        let hash: String = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text)).chars().take(16).collect();
        Self { path: format!("/ui/assets/{name}.{hash}.{ending}"), kind, text }
    }
}

static CSS: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("page", "css", "text/css; charset=utf-8", include_str!("static/page.css")));
static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("page", "js", "text/javascript; charset=utf-8", include_str!("static/page.js")));
static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("static/icon.svg")));

pub(super) fn css() -> &'static str {
    &CSS.path
}

pub(super) fn script() -> &'static str {
    &SCRIPT.path
}

pub(super) fn icon() -> &'static str {
    &ICON.path
}

/// `GET /ui/assets/{name}`: open to everyone, since a login needs its style too, and there is nothing in them.
pub(super) async fn asset(Path(name): Path<String>) -> Result<Response, Problem> {
    let found =
        [&*CSS, &*SCRIPT, &*ICON].into_iter().find(|asset| asset.path.strip_prefix("/ui/assets/") == Some(&*name));
    let asset = found.ok_or_else(|| Problem::not_found("there is no such file; load the page anew"))?;
    let mut response = ([(header::CONTENT_TYPE, asset.kind)], asset.text).into_response();
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, forever);
    Ok(response)
}
