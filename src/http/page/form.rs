//! The fields of a form, and links that carry some of them on.

use std::collections::BTreeMap;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::http::problem::Problem;

/// Fields by name, each once; empty ones are missing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads a query string or the body of a form; a field that stands twice is refused.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let mut fields = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(bytes) {
            let value = value.trim();
            if !value.is_empty() && fields.insert(name.to_string(), value.to_owned()).is_some() {
                let name = crate::domain::message::printable(name.as_bytes(), 100);
                return Err(Problem::field(name, "contradiction", "this stands twice; send it once"));
            }
        }
        Ok(Self(fields))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// What stands in the field of a form; empty where it is missing.
    pub(super) fn field(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// Only these.
    pub(super) fn only(&self, names: &[&str]) -> Self {
        let kept = self.0.iter().filter(|(name, _)| names.contains(&name.as_str()));
        Self(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The same with one more, or another value for it.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// As a query string.
    pub(super) fn query(&self) -> String {
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(self.iter()).finish()
    }

    /// A link of ours with these fields.
    pub(super) fn link(&self, path: &str) -> String {
        if self.is_empty() { path.to_owned() } else { format!("{path}?{}", self.query()) }
    }
}

/// The form of a POST that was let in; the query of what only reads.
impl<S: Sync> FromRequestParts<S> for Form {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.extensions.get::<Self>() {
            Some(form) => Ok(form.clone()),
            None => Self::parse(parts.uri.query().unwrap_or_default().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_the_way_through_a_link() {
        let form = Form::parse(b"uid=a%26b%3D%22%3E&empty=&since=-2h&csrf=x").unwrap();
        assert_eq!((form.get("uid"), form.get("empty"), form.get("since")), (Some("a&b=\">"), None, Some("-2h")));
        let link = form.only(&["uid", "since"]).with("cursor", "dlv_1").link("/ui/log");
        assert_eq!(link, "/ui/log?cursor=dlv_1&since=-2h&uid=a%26b%3D%22%3E");
        let (_, query) = link.split_once('?').unwrap();
        assert_eq!(Form::parse(query.as_bytes()).unwrap().get("uid"), Some("a&b=\">"));
        assert!(Form::parse(b"a=1&a=2").is_err());
        assert_eq!(Form::default().link("/"), "/");
    }
}
