//! Rules of URL templates.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::tests::outgoing;
use super::*;
use crate::domain::event::Event;
use crate::domain::event::tests::sample;
use crate::domain::name::TargetName;
use crate::domain::secret::Secret;

fn compile(text: &str) -> Result<UrlTemplate, Vec<String>> {
    let secrets = BTreeMap::from([("tok".to_owned(), Secret::new("s-3/c".to_owned()))]);
    UrlTemplate::compile(text, Scope { secrets: Some(&secrets), user: &[] })
}

fn render(text: &str, event: &Event) -> Result<Rendered, Unsendable> {
    let target: TargetName = "Purchase".parse().unwrap();
    compile(text).unwrap().render(&outgoing(event, &target))
}

fn with_uid(uid: &str) -> Event {
    Event { uid: (!uid.is_empty()).then(|| uid.to_owned()), ..sample() }
}

#[test]
fn values_are_percent_encoded_and_missing_ones_are_empty() {
    let text = "https://n.example/pb?z=1&cid={uid}&a={campaign_name}&a={placement}&sum={value}+{currency}&y=%2B!~*()";
    let said = render(text, &with_uid("a b&c=d#e/é+")).unwrap();
    assert_eq!(
        said.wire.whole(),
        "https://n.example/pb?z=1&cid=a%20b%26c%3Dd%23e%2F%C3%A9%2B\
         &a=%D0%9B%D0%B5%D1%82%D0%BE%20%E2%80%94%20%E5%A4%8F&a=&sum=25.00+USD&y=%2B!~*()"
    );
}

#[test]
fn secrets_go_out_and_are_not_shown() {
    let said = render("https://n.example/{secret.tok}/x?t={secret.tok}&u={uid}", &sample()).unwrap();
    assert_eq!(said.wire.whole(), "https://n.example/s-3%2Fc/x?t=s-3%2Fc&u=u-1");
    assert_eq!(said.shown.whole(), "https://n.example/[redacted]/x?t=[redacted]&u=u-1");
}

#[test]
fn every_bad_template_is_refused_with_what_to_write() {
    for (text, wanted) in [
        ("", "begin with https://"),
        ("ftp://n.example/", "begin with https://"),
        ("{uid}://n.example/", "begin with https://"),
        ("https://{uid}.example/", "host or port"),
        ("https://n.example:{uid}/", "host or port"),
        ("https://n.example{uid}", "host or port"),
        ("https://{uid}@n.example/", "host or port"),
        ("https://u:p@n.example/", "user info"),
        ("https:///x", "no usable host"),
        ("https://n.example:99999/", "no usable host"),
        ("https://n.example/?a=#s2#", "%23"),
        ("https://n.example\\{uid}", "%5C"),
        ("https://n.example/a b", "%20"),
        ("https://n.example/\n", "%20"),
        ("https://n.example/?a=%{uid}", "%25"),
        ("https://n.example/%2{uid}", "%25"),
        ("https://n.example/?a={uid", "not closed"),
        ("https://n.example/?a=uid}", "%7D"),
        ("https://n.example/?a={{uid}}", "single braces"),
        ("https://n.example/?a=${uid}", "not ${uid}"),
        ("https://n.example/?a={SUBID}", "no macro"),
        ("https://n.example/?a={_uid}", "always encoded"),
        ("https://n.example/?a={_uid}", "write {uid}"),
        ("https://n.example/?a={status:lead=0 sale=1 rejected=2}", "a map or a format"),
        ("https://n.example/?a={date:Y-m-d,UTC}", "a map or a format"),
        ("https://n.example/?r=#reqid#&p=#price#", "{name} for a macro"),
        ("https://n.example/?a=[CLICK_ID]", "[CLICK_ID] is another system's macro"),
        ("https://n.example/[sub-id]/x?a={uid}", "%5Bsub-id%5D"),
        ("https://n.example/?a=x[1]-[click.id]", "[click.id]"),
        ("https://n.example/?a=${SUBID}", "not ${uid}"),
        ("https://n.example/?a={{clickid}}", "single braces"),
        ("https://n.example/OPTIONAL/?b={uid}", "OPTIONAL is a placeholder"),
        ("https://n.example/?a='{uid}'", "write %27"),
        ("https://n.example/?a=\"{uid}\"", "write %22"),
        ("https://n.example/<{uid}>", "write %3C"),
        ("https://n.example/?a=Лето{uid}", "write %D0%9B"),
        ("https://n.example/?a={user.email}", "no macro"),
        ("https://n.example/?a={secret.nope}", "secrets table"),
        ("https://n.example/?a=REPLACE&b={uid}", "REPLACE is a placeholder"),
        ("https://n.example/a/../b?c={uid}", "segment . or .."),
        ("https://n.example/%2E%2e/{uid}", "segment . or .."),
    ] {
        let wrong = compile(text).unwrap_err();
        assert!(wrong.iter().any(|message| message.contains(wanted)), "{text}: {wrong:?}");
    }
}

#[test]
fn odd_but_honest_templates_are_taken() {
    for text in [
        "https://n.example/?ids[]={uid}&filter[name]=x&a[0]={value}",
        "https://n.example/?a=[]&b=[{uid}]&c=[a,b]",
        "http://[::1]:8080/x?a={uid}",
        "https://Пример.example/?a={uid}",
        "HTTPS://N.Example:443/a;b=c,d/$@!*()'?{uid}={uid}&&=&x|y^z`&REPLACED=1",
        "https://n.example?a={uid}",
    ] {
        assert!(compile(text).is_ok(), "{text}: {:?}", compile(text).unwrap_err());
    }
}

#[test]
fn all_problems_come_at_once() {
    assert_eq!(compile("https://u@n.example/?a={x1}&b={y2}&c=#").unwrap_err().len(), 4);
}

#[test]
fn a_dot_segment_makes_the_delivery_invalid() {
    for (text, uid) in [
        ("https://n.example/a/{uid}/b", ".."),
        ("https://n.example/a/{uid}", "."),
        ("https://n.example/a/.{uid}/b", "."),
        ("https://n.example/a/{placement}.{uid}", ""),
    ] {
        let said = render(text, &with_uid(uid)).unwrap_err();
        assert_eq!(said.reason, DeadReason::Invalid);
        assert!(said.detail.contains("{uid}"), "{}", said.detail);
    }
    for (text, uid) in
        [("https://n.example/{uid}", "..."), ("https://n.example/?a=/{uid}", ".."), ("https://n.example/x{uid}", "..")]
    {
        assert!(render(text, &with_uid(uid)).is_ok(), "{text}");
    }
}

#[test]
fn a_url_no_server_takes_is_invalid() {
    let mut event = sample();
    event.data.insert("x".to_owned(), "y".repeat(URL_BYTES).into());
    assert!(render("https://n.example/?a={data.x}", &event).unwrap_err().detail.contains("bytes"));
}

#[test]
fn parameters_are_decoded_for_json_and_stand_once() {
    let target: TargetName = "Purchase".parse().unwrap();
    let event = with_uid("a b&=");
    let template = compile("https://n.example/?a=1=%3D{uid}+x&&b&c%20d={secret.tok}").unwrap();
    let found: Vec<(String, String, String)> = template
        .parameters()
        .unwrap()
        .iter()
        .map(|parameter| {
            let (wire, shown) = parameter.render(&outgoing(&event, &target));
            (parameter.name.clone(), wire, shown)
        })
        .collect();
    let wanted = [("a", "1==a b&= x", "1==a b&= x"), ("b", "", ""), ("c d", "s-3/c", "[redacted]")];
    assert_eq!(found, wanted.map(|(name, wire, shown)| (name.to_owned(), wire.to_owned(), shown.to_owned())));
    for twice in ["https://n.example/?a=1&a=2", "https://n.example/?{uid}=1"] {
        assert!(compile(twice).unwrap().parameters().is_err(), "{twice}");
    }
}

proptest! {
    #[test]
    fn no_value_changes_where_a_request_goes(uid in "\\PC{0,20}|[./\\\\%?#@:&=2eE{}]{0,8}", x in any::<String>()) {
        const TEXT: &str = "https://n.example:8443/a/{uid}/v{data.x}/{uid}{data.x}?c={uid}&{data.x}=1&d={data.x}";
        let fixed = ::url::Url::parse(&render(TEXT, &with_uid("u")).unwrap().wire.whole()).unwrap();
        let mut event = with_uid(&uid);
        event.data.insert("x".to_owned(), x.clone().into());
        match render(TEXT, &event) {
            Err(said) => prop_assert_eq!(said.reason, DeadReason::Invalid),
            Ok(said) => {
                let url = ::url::Url::parse(&said.wire.whole()).unwrap();
                prop_assert_eq!(url.scheme(), fixed.scheme());
                prop_assert_eq!(url.host_str(), fixed.host_str());
                prop_assert_eq!(url.port(), fixed.port());
                prop_assert_eq!((url.username(), url.password(), url.fragment()), ("", None, None));
                let segments: Vec<String> = url.path_segments().unwrap().map(decode_path).collect();
                prop_assert_eq!(segments, vec!["a".to_owned(), uid.clone(), format!("v{x}"), format!("{uid}{x}")]);
                let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
                prop_assert_eq!(pairs, vec![("c".to_owned(), uid), (x.clone(), "1".to_owned()), ("d".to_owned(), x)]);
            }
        }
    }
}

fn decode_path(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}
