//! Names to addresses, judged before anyone connects to them.
//!
//! reqwest dials only what this resolver returns, so a name that changes its address between the judgement and the
//! connection gains nothing. Literals never come here: [`super::client`] judges those. (One exception: for socks5:// it
//! asks about literals too, IPv6 ones in brackets, and gives the proxy the first address only.)
//!
//! A proxy's own address is not judged: the operator named it, and it mostly lies on this machine or next to it.

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
    /// The proxy's own name does not resolve now.
    #[error("{0}")]
    OfProxy(String),
}

/// Whose names are asked for.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// The destination's only.
    Destination,
    /// The proxy's only: it resolves the destination's. Any other name would be a direct connection.
    Proxy(String),
    /// Both: the proxy's, which goes by [`PROXY_ALIAS`], and the destination's.
    Both { proxy: String },
}

/// Stands in for the host of a socks5:// proxy, so that its name cannot be taken for a destination's or the reverse.
pub(super) const PROXY_ALIAS: &str = "the-proxy.invalid";

/// The system's resolver behind the judgement of one destination.
#[derive(Debug)]
pub(super) struct GuardedResolver {
    allow: Arc<AllowPrivate>,
    asked: Asked,
    lookups: Arc<Semaphore>,
}

impl GuardedResolver {
    pub(super) fn new(allow: Arc<AllowPrivate>, asked: Asked) -> Self {
        Self { allow, asked, lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }

    /// The proxy's name, where `name` stands for the proxy.
    fn proxy(&self, name: &str) -> Result<Option<&str>, ResolveError> {
        match &self.asked {
            Asked::Destination => Ok(None),
            Asked::Both { proxy } => Ok((name == PROXY_ALIAS).then_some(proxy)),
            Asked::Proxy(proxy) if proxy.eq_ignore_ascii_case(name) => Ok(Some(proxy)),
            Asked::Proxy(_) => {
                Err(ResolveError::Refused("a direct connection was about to be made past the proxy".to_owned()))
            }
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let proxy = match self.proxy(name.as_str()) {
            Ok(proxy) => proxy.map(str::to_owned),
            Err(refused) => return Box::pin(async move { Err(refused.into()) }),
        };
        let (of_proxy, host) = (proxy.is_some(), proxy.unwrap_or_else(|| name.as_str().to_owned()));
        let through_socks = matches!(self.asked, Asked::Both { .. });
        let allow = Arc::clone(&self.allow);
        let found = lookup(Arc::clone(&self.lookups), host);
        Box::pin(async move {
            let found = tokio::time::timeout(LOOKUP_TIMEOUT, found).await.unwrap_or_else(|_| {
                let detail = format!("the host name was not resolved within {} s", LOOKUP_TIMEOUT.as_secs());
                Err(ResolveError::Failed(detail))
            });
            let addresses = match found {
                Ok(found) if of_proxy => found,
                Ok(found) => {
                    let mut judged = judge(found, &allow)?;
                    if through_socks {
                        // Only the first one is used, and many proxies have no way to IPv6.
                        judged.sort_by_key(SocketAddr::is_ipv6);
                    }
                    judged
                }
                Err(error) if of_proxy => return Err(ResolveError::OfProxy(error.to_string()).into()),
                Err(error) => return Err(error.into()),
            };
            Ok::<Addrs, _>(Box::new(addresses.into_iter()))
        })
    }
}

/// Asks the system in a task of its own: the permit stays with the thread that is really busy, however early the caller
/// stops waiting.
async fn lookup(lookups: Arc<Semaphore>, host: String) -> Result<Vec<SocketAddr>, ResolveError> {
    if let Ok(literal) = host.trim_matches(['[', ']']).parse() {
        return Ok(vec![SocketAddr::new(literal, 0)]);
    }
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

    async fn asked(resolver: &GuardedResolver, name: &str) -> Result<Vec<String>, String> {
        let found = resolver.resolve(name.parse().unwrap()).await.map_err(|error| error.to_string())?;
        Ok(found.map(|address| address.ip().to_string()).collect())
    }

    #[tokio::test]
    async fn a_proxy_is_not_judged_and_what_goes_through_it_is() {
        let allow = Arc::new(AllowPrivate::No);
        let both = GuardedResolver::new(Arc::clone(&allow), Asked::Both { proxy: "127.0.0.1".to_owned() });
        assert_eq!(asked(&both, PROXY_ALIAS).await, Ok(vec!["127.0.0.1".to_owned()]));
        for private in ["localhost", "127.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "169.254.169.254"] {
            let said = asked(&both, private).await;
            assert!(said.as_ref().is_err_and(|why| why.contains("allow_private")), "{private}: {said:?}");
        }
        assert_eq!(asked(&both, "[2606:4700::1111]").await, Ok(vec!["2606:4700::1111".to_owned()]));
    }

    #[tokio::test]
    async fn where_the_proxy_resolves_nothing_but_the_proxy_is_looked_up() {
        let resolver = GuardedResolver::new(Arc::new(AllowPrivate::All), Asked::Proxy("LocalHost".to_owned()));
        assert!(asked(&resolver, "localhost").await.is_ok());
        let said = asked(&resolver, "destination.example").await.unwrap_err();
        assert!(said.contains("direct connection"), "{said}");
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
