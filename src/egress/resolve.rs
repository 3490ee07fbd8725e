//! Names to addresses, judged before anyone connects to them.
//!
//! reqwest dials only what this resolver returns, so a name that changes its address between the judgement and the
//! connection gains nothing. Literals never come here: [`super::client`] judges those.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use crate::domain::limits;
use crate::domain::net::{self, AllowPrivate};

/// A lookup that takes longer has failed; a healthy resolver answers within a tenth of that.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Lookups of one destination at a time. Each holds a thread until the system's resolver gives up, so a broken zone must
/// not take the threads that others need.
const LOOKUPS: usize = 4;

/// Why a name gave no address to connect to.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// The name does not resolve now.
    #[error("{0}")]
    Failed(String),
    /// It resolves to an address we must not connect to.
    #[error("{0}")]
    Refused(String),
}

/// The system's resolver behind the judgement of one destination.
#[derive(Debug)]
pub(super) struct GuardedResolver {
    allow: Arc<AllowPrivate>,
    lookups: Arc<Semaphore>,
}

impl GuardedResolver {
    pub(super) fn new(allow: Arc<AllowPrivate>) -> Self {
        Self { allow, lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow = Arc::clone(&self.allow);
        let found = lookup(Arc::clone(&self.lookups), name.as_str().to_owned());
        Box::pin(async move {
            let Ok(found) = tokio::time::timeout(LOOKUP_TIMEOUT, found).await else {
                let detail = format!("the host name was not resolved within {} s", LOOKUP_TIMEOUT.as_secs());
                return Err(ResolveError::Failed(detail).into());
            };
            let found = found?;
            let judged = judge(found, &allow)?;
            Ok::<Addrs, _>(Box::new(judged.into_iter()))
        })
    }
}

/// Asks the system in a task of its own: the permit stays with the thread that is really busy, however early the caller
/// stops waiting.
async fn lookup(lookups: Arc<Semaphore>, host: String) -> Result<Vec<SocketAddr>, ResolveError> {
    let failed = |detail: String| ResolveError::Failed(format!("the host name cannot be resolved: {detail}"));
    let permit = lookups.acquire_owned().await.map_err(|error| failed(error.to_string()))?;
    let asked = tokio::spawn(async move {
        let found = tokio::net::lookup_host((host.as_str(), 0)).await.map(Iterator::collect);
        drop(permit);
        found
    });
    match asked.await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// One bad address refuses the whole answer: a mixed one is an attack or a broken zone. What passes is cut to
/// [`limits::RESOLVED_ADDRESSES`].
fn judge(mut found: Vec<SocketAddr>, allow: &AllowPrivate) -> Result<Vec<SocketAddr>, ResolveError> {
    for address in &found {
        if let Some(why) = net::refuse(address.ip(), allow) {
            return Err(ResolveError::Refused(format!(
                "the host name resolves to {}: {why}; set allow_private for this destination if that is meant",
                address.ip()
            )));
        }
    }
    if found.is_empty() {
        return Err(ResolveError::Failed("the host name has no address".to_owned()));
    }
    found.truncate(limits::RESOLVED_ADDRESSES);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
    }

    #[test]
    fn one_bad_address_refuses_the_whole_answer() {
        let mixed = addresses(&["93.184.215.14", "10.0.0.5"]);
        let refused = judge(mixed.clone(), &AllowPrivate::No);
        assert!(matches!(&refused, Err(ResolveError::Refused(text)) if text.contains("10.0.0.5")), "{refused:?}");
        let allowed = AllowPrivate::Networks(vec!["10.0.0.0/24".parse().unwrap()]);
        assert_eq!(judge(mixed.clone(), &allowed), Ok(mixed));
    }

    #[test]
    fn a_bad_address_beyond_the_bound_is_still_seen() {
        let mut many = addresses(&["93.184.215.14"; 100]);
        assert_eq!(judge(many.clone(), &AllowPrivate::No).map(|kept| kept.len()), Ok(limits::RESOLVED_ADDRESSES));
        many.extend(addresses(&["127.0.0.1"]));
        assert!(matches!(judge(many, &AllowPrivate::No), Err(ResolveError::Refused(_))));
    }

    #[test]
    fn an_empty_answer_is_a_failure() {
        assert!(matches!(judge(Vec::new(), &AllowPrivate::All), Err(ResolveError::Failed(_))));
    }

    #[tokio::test]
    async fn a_lookup_gives_its_permit_back() {
        let slots = Arc::new(Semaphore::new(1));
        for _ in 0..3 {
            assert!(lookup(Arc::clone(&slots), "localhost".to_owned()).await.is_ok());
        }
        assert_eq!(slots.available_permits(), 1);
    }
}
