//! Names to addresses, judged before anyone connects to them.
//!
//! reqwest dials only what this resolver returns, so a name that changes its address between the judgement and the
//! connection gains nothing. Literals never come here: [`super::client`] judges those. (One exception: for socks5:// it
//! asks about literals too, IPv6 ones in brackets, and gives the proxy the first address only.)
//!
//! A proxy's own address is not judged: the operator named it, and it mostly lies on this machine or next to it.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
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
/// Lookups of all destinations together: a quarter of the threads for blocking work (tokio has 512), so that a dead resolver
/// leaves the store's readers theirs however many destinations there are, and however often they are configured anew.
const LOOKUPS_ALL: usize = 128;

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

/// Who knows addresses: the system, or what a test says in its place.
trait Names: fmt::Debug + Send + Sync {
    fn ask(&self, host: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
}

#[derive(Debug)]
struct System;

impl Names for System {
    fn ask(&self, host: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
        Box::pin(async move { tokio::net::lookup_host((host.as_str(), 0)).await.map(Iterator::collect) })
    }
}

/// Lookups, so many at a time and each for so long.
#[derive(Clone, Debug)]
struct Lookups {
    names: Arc<dyn Names>,
    slots: Arc<Semaphore>,
    /// [`LOOKUPS_ALL`]
    all: Arc<Semaphore>,
    within: Duration,
}

/// The system's resolver behind the judgement of one destination.
#[derive(Debug)]
pub(super) struct GuardedResolver {
    allow: Arc<AllowPrivate>,
    asked: Asked,
    lookups: Lookups,
}

/// Finds out whether a destination's name leads back to this daemon.
#[derive(Debug)]
pub(super) struct OwnAddresses {
    listen: Vec<SocketAddr>,
    lookups: Lookups,
}

impl OwnAddresses {
    pub(super) fn new(listen: &[SocketAddr]) -> Self {
        Self { listen: listen.to_vec(), lookups: Lookups::system() }
    }

    pub(super) fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// The address of `host` that a listener of ours has, if any. Names are looked up only where the port is ours, so this
    /// costs nothing otherwise. It guards against a loop, not against an attacker: the connection asks once more, and a
    /// name that changes in between is found at the next attempt.
    pub(super) async fn reached_by(&self, host: &url::Host<&str>, port: u16) -> Option<IpAddr> {
        let ours: Vec<IpAddr> = self.listen.iter().filter(|ours| ours.port() == port).map(SocketAddr::ip).collect();
        if ours.is_empty() {
            return None;
        }
        let found: Vec<IpAddr> = match host {
            url::Host::Ipv4(address) => vec![IpAddr::V4(*address)],
            url::Host::Ipv6(address) => vec![IpAddr::V6(*address)],
            // One that cannot be resolved is no loop; the exchange will say what is wrong with it.
            url::Host::Domain(name) => {
                let found = self.lookups.addresses((*name).to_owned()).await.unwrap_or_default();
                found.iter().map(SocketAddr::ip).collect()
            }
        };
        found.into_iter().find(|address| {
            let wildcard = || ours.iter().any(IpAddr::is_unspecified) && is_of_this_machine(*address);
            ours.iter().any(|ours| net::reaches(*address, *ours)) || wildcard()
        })
    }
}

/// Only an address of this machine can be bound to.
fn is_of_this_machine(address: IpAddr) -> bool {
    std::net::UdpSocket::bind((net::canonical(address), 0)).is_ok()
}

impl GuardedResolver {
    pub(super) fn new(allow: Arc<AllowPrivate>, asked: Asked) -> Self {
        Self { allow, asked, lookups: Lookups::system() }
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
        let lookups = self.lookups.clone();
        Box::pin(async move {
            let found = lookups.addresses(host).await;
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

impl Lookups {
    fn system() -> Self {
        static ALL: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(LOOKUPS_ALL)));
        let (slots, all) = (Arc::new(Semaphore::new(LOOKUPS)), Arc::clone(&ALL));
        Self { names: Arc::new(System), slots, all, within: LOOKUP_TIMEOUT }
    }

    /// Waits for a slot and an answer no longer than a lookup may take.
    async fn addresses(&self, host: String) -> Result<Vec<SocketAddr>, ResolveError> {
        tokio::time::timeout(self.within, self.lookup(host)).await.unwrap_or_else(|_| {
            let detail = format!("the host name was not resolved within {} s", self.within.as_secs());
            Err(ResolveError::Failed(detail))
        })
    }

    /// Asks in a task of its own: the permit stays with the thread that is really busy, however early the caller stops
    /// waiting.
    async fn lookup(&self, host: String) -> Result<Vec<SocketAddr>, ResolveError> {
        if let Ok(literal) = host.trim_matches(['[', ']']).parse() {
            return Ok(vec![SocketAddr::new(literal, 0)]);
        }
        let failed = |detail: String| ResolveError::Failed(format!("the host name cannot be resolved: {detail}"));
        // The own one first: who waits for it holds none of what others wait for.
        let mut permits = Vec::new();
        for slots in [&self.slots, &self.all] {
            permits.push(Arc::clone(slots).acquire_owned().await.map_err(|error| failed(error.to_string()))?);
        }
        let names = Arc::clone(&self.names);
        let asked = tokio::spawn(async move {
            let found = names.ask(host).await;
            drop(permits);
            found
        });
        match asked.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
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

/// The address to connect to for `host`, for whoever does not connect through reqwest: judged, IPv4 before IPv6, which
/// fewer machines have.
pub(super) async fn one(host: &str, allow: Arc<AllowPrivate>) -> Result<IpAddr, String> {
    let found = Lookups::system().addresses(host.to_owned()).await.map_err(|error| error.to_string())?;
    preferred(&judge(found, &allow).map_err(|error| error.to_string())?)
}

/// The same for the host of a proxy, which is not judged.
pub(super) async fn of_proxy(host: &str) -> Result<IpAddr, String> {
    preferred(&Lookups::system().addresses(host.to_owned()).await.map_err(|error| error.to_string())?)
}

fn preferred(addresses: &[SocketAddr]) -> Result<IpAddr, String> {
    let addresses = addresses.iter().map(SocketAddr::ip);
    addresses.min_by_key(IpAddr::is_ipv6).ok_or_else(|| "the host name has no address".to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
    }

    // Row 41.
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
        let lookups = Lookups { slots: Arc::new(Semaphore::new(1)), ..Lookups::system() };
        for _ in 0..3 {
            assert!(lookups.addresses("localhost".to_owned()).await.is_ok());
        }
        assert_eq!(lookups.slots.available_permits(), 1);
    }

    /// Answers of a zone, one after the other; the last one holds. `None` never comes.
    #[derive(Debug)]
    struct Zone {
        answers: Mutex<VecDeque<Option<io::Result<Vec<SocketAddr>>>>>,
        asked: AtomicUsize,
    }

    impl Zone {
        fn new(answers: Vec<Option<io::Result<Vec<SocketAddr>>>>) -> Arc<Self> {
            Arc::new(Self { answers: Mutex::new(answers.into()), asked: AtomicUsize::new(0) })
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }
    }

    impl Names for Zone {
        fn ask(&self, _: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            match self.answers.lock().unwrap().pop_front().flatten() {
                Some(answer) => Box::pin(async move { answer }),
                None => Box::pin(std::future::pending()),
            }
        }
    }

    fn resolver(zone: &Arc<Zone>, allow: AllowPrivate, within: Duration) -> GuardedResolver {
        let names: Arc<dyn Names> = Arc::<Zone>::clone(zone);
        let lookups = Lookups { names, within, ..Lookups::system() };
        GuardedResolver { allow: Arc::new(allow), asked: Asked::Destination, lookups }
    }

    const SHORT: Duration = Duration::from_millis(50);

    // Row 40.
    #[tokio::test]
    async fn a_resolver_that_is_silent_is_given_up_and_takes_no_more_threads_than_it_may() {
        let zone = Zone::new(Vec::new());
        let resolver = Arc::new(resolver(&zone, AllowPrivate::No, SHORT));
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..5 * LOOKUPS {
            let resolver = Arc::clone(&resolver);
            waiting.spawn(async move { asked(&resolver, "slow.example").await });
        }
        for said in waiting.join_all().await {
            assert!(said.unwrap_err().contains("was not resolved within"));
        }
        assert!(asked(&resolver, "slow.example").await.is_err());
        assert_eq!(zone.asked(), LOOKUPS, "what nobody waits for any more still holds its thread");
    }

    // Row 40: many destinations at once, as where the resolver is dead for all of them.
    #[tokio::test]
    async fn a_dead_resolver_takes_no_more_threads_than_it_may_for_all_destinations_together() {
        let zone = Zone::new(Vec::new());
        let all = Arc::new(Semaphore::new(10));
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let mut resolver = resolver(&zone, AllowPrivate::No, SHORT);
            resolver.lookups.all = Arc::clone(&all);
            let resolver = Arc::new(resolver);
            for _ in 0..LOOKUPS {
                let resolver = Arc::clone(&resolver);
                waiting.spawn(async move { asked(&resolver, "slow.example").await });
            }
        }
        assert!(waiting.join_all().await.iter().all(Result::is_err));
        assert_eq!((zone.asked(), all.available_permits()), (10, 0), "what nobody waits for still holds its thread");
        assert!(Arc::ptr_eq(&Lookups::system().all, &Lookups::system().all));
    }

    // Row 40.
    #[tokio::test]
    async fn a_resolver_that_fails_is_asked_again_at_the_next_attempt() {
        let servfail = io::Error::other("Temporary failure in name resolution");
        let zone = Zone::new(vec![Some(Err(servfail)), Some(Ok(Vec::new())), Some(Ok(addresses(&["93.184.215.14"])))]);
        let resolver = resolver(&zone, AllowPrivate::No, LOOKUP_TIMEOUT);
        assert!(asked(&resolver, "a.example").await.unwrap_err().contains("Temporary failure"));
        assert!(asked(&resolver, "a.example").await.unwrap_err().contains("no address"));
        assert_eq!(asked(&resolver, "a.example").await, Ok(vec!["93.184.215.14".to_owned()]));
    }

    // Rows 40 and 41: ten thousand addresses are cut, and all of them are judged.
    #[tokio::test]
    async fn a_huge_answer_is_judged_whole_and_cut() {
        let many = |last: &str| {
            let mut many: Vec<SocketAddr> = addresses(&vec!["93.184.215.14"; 10_000]);
            many.extend(addresses(&[last]));
            Some(Ok(many))
        };
        let zone = Zone::new(vec![many("93.184.215.15"), many("169.254.169.254")]);
        let resolver = resolver(&zone, AllowPrivate::No, LOOKUP_TIMEOUT);
        assert_eq!(asked(&resolver, "a.example").await.map(|found| found.len()), Ok(limits::RESOLVED_ADDRESSES));
        assert!(asked(&resolver, "a.example").await.unwrap_err().contains("169.254.169.254"));
    }

    /// Counts connections, and ends each after one answer.
    async fn recorder(address: &str, port: u16) -> (u16, Arc<AtomicUsize>) {
        let listener = tokio::net::TcpListener::bind((address, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0)
                {
                }
                stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.ok();
            }
        });
        (port, count)
    }

    // Row 41: a name that is rebound between two attempts is judged anew, and the refused address sees no packet.
    #[tokio::test]
    async fn a_name_is_judged_at_every_connection() {
        let (port, allowed) = recorder("127.0.0.1", 0).await;
        let (_, refused) = recorder("127.0.0.2", port).await;
        let rebound = [["127.0.0.1"].as_slice(), &["127.0.0.2"], &["127.0.0.1", "127.0.0.2"], &["127.0.0.1"]];
        let zone = Zone::new(rebound.iter().map(|texts| Some(Ok(addresses(texts)))).collect());
        let only_first = AllowPrivate::Networks(vec!["127.0.0.1/32".parse().unwrap()]);
        let resolver = Arc::new(resolver(&zone, only_first, LOOKUP_TIMEOUT));
        let builder = || crate::egress::client::base(Duration::from_secs(10)).dns_resolver(Arc::clone(&resolver));
        let client = crate::egress::tls::build_plain(builder()).unwrap();
        let url = format!("http://rebound.example:{port}/");
        let mut said = Vec::new();
        for _ in 0..4 {
            said.push(client.get(&url).send().await.map(|answer| answer.status().as_u16()).ok());
        }
        assert_eq!(said, [Some(204), None, None, Some(204)]);
        assert_eq!((allowed.load(Ordering::SeqCst), refused.load(Ordering::SeqCst), zone.asked()), (2, 0, 4));
    }

    // Row 43: a name that leads to our own listener, and to every address of this machine where all are listened on.
    #[tokio::test]
    async fn a_name_that_leads_to_ourselves_is_found() {
        let own = async |listen: &str, found: &str, url: &str| {
            let names: Arc<dyn Names> = Zone::new(vec![Some(Ok(addresses(&["93.184.215.14", found])))]);
            let listen = vec![listen.parse().unwrap()];
            let own = OwnAddresses { listen, lookups: Lookups { names, ..Lookups::system() } };
            let url: url::Url = url.parse().unwrap();
            own.reached_by(&url.host().unwrap(), url.port_or_known_default().unwrap()).await
        };
        let here = Some("127.0.0.1".parse().unwrap());
        assert_eq!(own("127.0.0.1:8460", "127.0.0.1", "http://us.example:8460/").await, here);
        assert_eq!(own("0.0.0.0:8460", "127.0.0.1", "http://us.example:8460/").await, here);
        assert_eq!(own("[::]:80", "127.0.0.1", "http://us.example/").await, here);
        assert_eq!(own("127.0.0.1:8460", "127.0.0.1", "http://us.example:8461/").await, None, "another port");
        assert_eq!(own("0.0.0.0:8460", "93.184.215.15", "http://us.example:8460/").await, None, "another machine");
        // Every address that starts with 127 is this machine's, and only binding tells it.
        assert_eq!(own("0.0.0.0:8460", "127.9.9.9", "http://127.9.9.9:8460/").await, "127.9.9.9".parse().ok());
    }
}
