//! Which canonical names a destination takes, and what it calls them.
//!
//! The configuration's `events` are laid over the kind's defaults: an entry renames or switches off one canonical name and
//! leaves the others as they are. What has no target is skipped, visibly, and never fails.

use std::collections::BTreeMap;

use super::Adapter;
use crate::domain::name::{CanonicalName, TargetName};

/// What inbound presets make of a pending, declined or rejected status. No kind takes them unless the configuration says
/// so: a conversion that was not approved must never become a sale.
pub const NEVER_BY_DEFAULT: [&str; 3] = ["conversion_pending", "conversion_declined", "conversion_rejected"];

/// `events` of a destination: merged over the kind's defaults.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EventMap {
    /// `None` switches a canonical name off.
    entries: BTreeMap<CanonicalName, Option<TargetName>>,
}

impl EventMap {
    pub fn new(entries: BTreeMap<CanonicalName, Option<TargetName>>) -> Self {
        Self { entries }
    }

    /// The names the configuration says something about.
    pub fn names(&self) -> impl Iterator<Item = &CanonicalName> {
        self.entries.keys()
    }

    /// What the destination calls `canonical`; `None` where it does not take it.
    pub fn target(&self, canonical: &CanonicalName, adapter: &dyn Adapter) -> Option<TargetName> {
        match self.entries.get(canonical) {
            Some(entry) => entry.clone(),
            None => adapter.default_target(canonical.as_str()).and_then(|name| name.parse().ok()),
        }
    }
}

/// The default map of kinds without names of their own: every canonical name is its own target.
pub fn identity(canonical: &str) -> Option<String> {
    (!NEVER_BY_DEFAULT.contains(&canonical)).then(|| canonical.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::registry::{Spec, build};
    use crate::destination::webhook::WebhookSpec;
    use crate::env::transport::Method;

    fn webhook() -> Box<dyn Adapter> {
        let spec = WebhookSpec {
            url: "https://hook.example/".parse().unwrap(),
            method: Method::Post,
            headers: Vec::new(),
            signing_secrets: Vec::new(),
            include_user: Vec::new(),
            template: None,
            hidden: Vec::new(),
        };
        build(Spec::Webhook(spec)).unwrap()
    }

    #[test]
    fn the_configuration_is_laid_over_the_defaults() {
        let name = |text: &str| text.parse::<CanonicalName>().unwrap();
        let entries = BTreeMap::from([
            (name("deposit"), Some("sale".parse().unwrap())),
            (name("contact"), None),
            (name("conversion_pending"), Some("hold".parse().unwrap())),
        ]);
        let map = EventMap::new(entries);
        let target = |text: &str| map.target(&name(text), webhook().as_ref()).map(|target| target.to_string());
        assert_eq!(target("deposit").as_deref(), Some("sale"));
        assert_eq!(target("contact"), None);
        assert_eq!(target("registration").as_deref(), Some("registration"));
        assert_eq!(target("conversion_pending").as_deref(), Some("hold"));
        assert_eq!(target("conversion_declined"), None);
        assert_eq!(target("conversion_rejected"), None);
    }
}
