//! Networks and trackers whose postbacks are known: the names of their parameters and the words of their statuses. Data.
//!
//! An approved conversion is called [`SALE`]. Pending, declined and rejected ones have names of their own, which no
//! destination takes unless its `events` says so. A status that is missing counts as approved, as these systems mean it;
//! one that came as a macro is refused. Everything here gives way to the source's own keys.

use super::event_name::{Choice, EventRule, Meaning, Naming};
use super::field::Field;
use super::pick::{Pick, Source};
use super::recipe::{Names, Recipe};

/// What an approved conversion is called.
pub const SALE: &str = "deposit";

/// A system whose postbacks are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preset {
    pub name: &'static str,
    /// Our field, and where it is found: parameters or templates, the first that has a value.
    pub fields: &'static [(&'static str, &'static [&'static str])],
    /// Parameters that say whether it was approved.
    pub status: &'static [&'static str],
    /// Words of its own besides [`COMMON`].
    pub words: &'static [(&'static str, Said)],
    /// Parameters that say what it was; what is not in `kinds` is kept under its own name.
    pub kind: &'static [&'static str],
    pub kinds: &'static [(&'static str, Said)],
    /// Parameters that authenticate towards the system itself: kept nowhere.
    pub private: &'static [&'static str],
}

/// What a word means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    Approved,
    Pending,
    Declined,
    Rejected,
    /// An event of its own.
    Event(&'static str),
}

/// Words for a status that mean the same everywhere.
pub const COMMON: [(&str, Said); 15] = [
    ("approved", Said::Approved),
    ("approve", Said::Approved),
    ("accepted", Said::Approved),
    ("confirmed", Said::Approved),
    ("pending", Said::Pending),
    ("hold", Said::Pending),
    ("on_hold", Said::Pending),
    ("waiting", Said::Pending),
    ("declined", Said::Declined),
    ("decline", Said::Declined),
    ("canceled", Said::Declined),
    ("cancelled", Said::Declined),
    ("rejected", Said::Rejected),
    ("reject", Said::Rejected),
    ("trash", Said::Rejected),
];

pub const ALL: [Preset; 8] = [
    // `tid` counts the transactions of one player ("tid=2"), so only the two together are an id: alone it would be the
    // same for every player, and a platform that drops repeats by id would drop them.
    Preset {
        name: "keitaro",
        fields: &[
            ("uid", &["subid"]),
            ("event_id", &["{subid}:{tid}", "tid"]),
            ("value", &["payout", "revenue"]),
            ("currency", &["currency"]),
        ],
        status: &["status"],
        words: &[("lead", Said::Event("lead")), ("sale", Said::Approved), ("rebill", Said::Approved)],
        kind: &[],
        kinds: &[],
        private: &[],
    },
    Preset {
        name: "voluum",
        fields: &[("uid", &["cid"]), ("event_id", &["txid"]), ("value", &["payout"]), ("currency", &["currency"])],
        status: &["status"],
        words: &[],
        kind: &["et"],
        kinds: &[],
        private: &[],
    },
    Preset {
        name: "binom",
        fields: &[("uid", &["cnv_id", "clickid"]), ("value", &["payout"]), ("currency", &["cnv_currency"])],
        status: &["cnv_status", "cnv_status2", "status"],
        words: &[("sale", Said::Approved), ("lead", Said::Event("lead"))],
        kind: &[],
        kinds: &[],
        private: &[],
    },
    Preset {
        name: "redtrack",
        fields: &[
            ("uid", &["clickid"]),
            ("event_id", &["rdtk_event_id"]),
            ("value", &["sum", "payout"]),
            ("currency", &["currency"]),
        ],
        status: &["status"],
        words: &[],
        kind: &["type"],
        kinds: &[("conversion", Said::Approved), ("purchase", Said::Approved), ("lead", Said::Event("lead"))],
        private: &[],
    },
    // `transaction_id` is the click; `event_id` is the kind of event, 0 the conversion itself.
    Preset {
        name: "everflow",
        fields: &[
            ("uid", &["transaction_id"]),
            ("event_id", &["conversion_id", "order_id"]),
            ("value", &["amount"]),
            ("currency", &["currency"]),
            ("user.email", &["email"]),
        ],
        status: &["status"],
        words: &[],
        kind: &["event_id", "adv_event_id"],
        kinds: &[("0", Said::Approved)],
        private: &["verification_token"],
    },
    // `transaction_id` is the click, which all goals of an offer share: the goal belongs to the id.
    Preset {
        name: "tune",
        fields: &[
            ("uid", &["transaction_id"]),
            ("event_id", &["conversion_unique_id", "{transaction_id}:{goal_id}", "{transaction_id}:{goal_ref}"]),
            ("value", &["payout", "amount", "revenue"]),
            ("currency", &["currency"]),
        ],
        status: &["status"],
        words: &[],
        kind: &[],
        kinds: &[],
        private: &["security_token"],
    },
    Preset {
        name: "affise",
        fields: &[
            ("uid", &["clickid", "click_id"]),
            ("event_id", &["action_id", "transactionid"]),
            ("value", &["sum"]),
            ("currency", &["currency"]),
        ],
        status: &["status"],
        words: &[("1", Said::Approved), ("2", Said::Pending), ("3", Said::Declined), ("5", Said::Pending)],
        kind: &[],
        kinds: &[],
        private: &["secure"],
    },
    // `t` is the transaction and `r` the click's session; `p` is the price.
    Preset {
        name: "cake",
        fields: &[("uid", &["r"]), ("event_id", &["t"]), ("value", &["p", "amount"]), ("currency", &["eccu"])],
        status: &["status"],
        words: &[],
        kind: &[],
        kinds: &[],
        private: &[],
    },
];

/// The preset of that name, as the configuration writes it.
pub fn find(name: &str) -> Option<&'static Preset> {
    ALL.iter().find(|preset| preset.name == name)
}

impl Preset {
    /// The recipe that these facts are. Names that are none would be left out; a test shows that there are none.
    pub fn recipe(&self) -> Recipe {
        let fields = self.fields.iter().filter_map(|(field, sources)| {
            let sources = sources.iter().filter_map(|source| Source::parse(source).ok()).collect();
            Some((field.parse::<Field>().ok()?, Pick(sources)))
        });
        let words =
            |list: &[(&str, Said)]| list.iter().map(|(word, said)| ((*word).to_owned(), said.meaning())).collect();
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let status: Vec<(&str, Said)> = COMMON.iter().chain(self.words).copied().collect();
        let naming = if self.kind.is_empty() {
            Said::Event(SALE).name().map_or(Naming::Own, Naming::Fixed)
        } else {
            // A word for a status may stand where the kind is told, and means the same there.
            let kinds: Vec<(&str, Said)> = COMMON.iter().chain(self.kinds).copied().collect();
            Naming::By {
                choice: Choice { parameters: names(self.kind), map: words(&kinds) },
                default: Said::Event(SALE).name(),
            }
        };
        Recipe {
            fields: fields.collect(),
            event: EventRule { status: Some(Choice { parameters: names(self.status), map: words(&status) }), naming },
            private: self.private.iter().map(|name| (*name).to_owned()).collect(),
            names: Names::Whole,
            ..Recipe::default()
        }
    }
}

impl Said {
    fn name(self) -> Option<crate::domain::name::CanonicalName> {
        let name = match self {
            Self::Approved => return None,
            Self::Pending => "conversion_pending",
            Self::Declined => "conversion_declined",
            Self::Rejected => "conversion_rejected",
            Self::Event(name) => name,
        };
        name.parse().ok()
    }

    fn meaning(self) -> Meaning {
        self.name().map_or(Meaning::Approved, Meaning::Named)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::parameters::{Parameter, Parameters};
    use super::super::recipe::{Mapped, Outcome};
    use super::*;
    use crate::domain::money::Currency;

    fn read(preset: &str, query: &[(&str, &str)]) -> Option<Mapped> {
        let given = Parameters::join(query.iter().map(|(name, value)| Parameter::text(*name, *value))).unwrap();
        match find(preset).unwrap().recipe().read(given, "USD".parse::<Currency>().unwrap()) {
            Ok(Outcome::Event(mapped)) => Some(*mapped),
            Ok(Outcome::Ignored) => None,
            Err(faults) => panic!("{faults:?}"),
        }
    }

    #[test]
    fn every_word_and_every_name_of_the_table_is_valid() {
        for preset in ALL {
            let recipe = preset.recipe();
            assert_eq!(recipe.fields.len(), preset.fields.len(), "{}", preset.name);
            for (field, sources) in preset.fields {
                assert_eq!(recipe.fields[&field.parse().unwrap()].0.len(), sources.len(), "{}", preset.name);
            }
            for (word, said) in COMMON.iter().chain(preset.words).chain(preset.kinds) {
                assert!(*said == Said::Approved || said.name().is_some(), "{word}");
            }
            let status = recipe.event.status.unwrap();
            assert_eq!(status.map.len(), COMMON.len() + preset.words.len(), "{}: a word stands twice", preset.name);
        }
    }

    #[test]
    fn each_preset_reads_its_network() {
        let mut lines = Vec::new();
        for (preset, query) in [
            ("keitaro", "subid=s1&tid=2&payout=25.00&currency=usd&status=sale&sub_id_3=x"),
            ("voluum", "cid=c1&payout=12.5&txid=T9&currency=EUR&et=registration&param1=x"),
            ("binom", "cnv_id=b1&payout=5&cnv_status=approve&cnv_currency=USD&event1=3"),
            ("redtrack", "clickid=r1&sum=7.10&type=Purchase&rdtk_event_id=R-1"),
            (
                "everflow",
                "nid=7&transaction_id=e1&amount=9&event_id=3&order_id=O-1&email=a@b.example&verification_token=v",
            ),
            ("tune", "transaction_id=t1&goal_id=17&payout=3&status=approved&offer_id=4&security_token=v"),
            ("affise", "click_id=a1&action_id=A-1&sum=4&goal=2&status=1"),
            ("cake", "r=1001&t=T-5&p=1,234.50&eccu=EUR&status=approved"),
        ] {
            let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
            let mapped = read(preset, &pairs).unwrap();
            lines.push(format!("{preset}: {}", serde_json::Value::Object(mapped.object)));
        }
        insta::assert_snapshot!(lines.join("\n"), @r#"
        keitaro: {"currency":"usd","event_id":"s1:2","uid":"s1","value":"25.00","event":"deposit","data":{"sub_id_3":"x"}}
        voluum: {"currency":"EUR","event_id":"T9","uid":"c1","value":"12.5","event":"registration","data":{"param1":"x"}}
        binom: {"currency":"USD","uid":"b1","value":"5","event":"deposit","data":{"event1":"3"}}
        redtrack: {"event_id":"R-1","uid":"r1","value":"7.10","event":"deposit"}
        everflow: {"event_id":"O-1","uid":"e1","user":{"email":"a@b.example"},"value":"9","event":"3","data":{"nid":"7"}}
        tune: {"event_id":"t1:17","uid":"t1","value":"3","event":"deposit","data":{"offer_id":"4"}}
        affise: {"event_id":"A-1","uid":"a1","value":"4","event":"deposit","data":{"goal":"2"}}
        cake: {"currency":"EUR","event_id":"T-5","uid":"1001","value":"1234.50","event":"deposit"}
        "#);
    }

    #[test]
    fn a_networks_short_names_are_not_ours() {
        let pairs = [("subid", "s1"), ("t", "1764000000000"), ("eid", "7"), ("eventId", "8")];
        let object = serde_json::Value::Object(read("keitaro", &pairs).unwrap().object);
        assert_eq!(object["data"], serde_json::json!({ "eid": "7", "eventId": "8", "t": "1764000000000" }));
        assert_eq!(object.as_object().unwrap().keys().collect::<Vec<_>>(), ["uid", "event", "data"]);
    }

    #[test]
    fn statuses_that_were_not_approved_have_their_own_names() {
        let told =
            |preset, pairs: &[(&str, &str)]| read(preset, pairs).unwrap().object["event"].as_str().unwrap().to_owned();
        for preset in ALL {
            let status = preset.status[0];
            for (word, wanted) in [
                ("approved", SALE),
                ("", SALE),
                ("pending", "conversion_pending"),
                ("Declined", "conversion_declined"),
                ("REJECTED", "conversion_rejected"),
                ("chargeback", "chargeback"),
            ] {
                assert_eq!(told(preset.name, &[(status, word)]), wanted, "{} {word}", preset.name);
            }
        }
        for (status, wanted) in [
            ("1", SALE),
            ("2", "conversion_pending"),
            ("3", "conversion_declined"),
            ("5", "conversion_pending"),
            ("4", "4"),
        ] {
            assert_eq!(told("affise", &[("status", status)]), wanted);
        }
        assert_eq!(told("everflow", &[("event_id", "0")]), SALE);
        assert_eq!(told("everflow", &[("event_id", "3"), ("status", "rejected")]), "conversion_rejected");
        assert_eq!(told("redtrack", &[("type", "declined")]), "conversion_declined");
        assert_eq!(told("keitaro", &[("status", "lead")]), "lead");
    }

    proptest! {
        /// Whatever else a postback says, one that says it was not approved is no sale.
        #[test]
        fn what_was_not_approved_is_never_a_sale(
            preset in 0..ALL.len(),
            word in proptest::sample::select(vec!["pending", "hold", "declined", "canceled", "rejected", "trash", "on_hold"]),
            case in any::<u16>(),
            noise in proptest::collection::vec(("[a-z_]{1,12}|et|type|event|event_id|goal|status2", "\\PC{0,12}|deposit|purchase|approved"), 0..6),
        ) {
            let preset = ALL[preset];
            let word: String = word.chars().enumerate()
                .map(|(at, letter)| if case >> (at % 16) & 1 == 1 { letter.to_ascii_uppercase() } else { letter })
                .collect();
            let mut parameters = vec![Parameter::text(preset.status[0], word)];
            parameters.extend(noise.into_iter().filter(|(name, _)| name != preset.status[0]).map(|(name, value)| Parameter::text(name, value)));
            let Ok(given) = Parameters::join(parameters) else { return Ok(()) };
            if let Ok(Outcome::Event(mapped)) = preset.recipe().read(given, "USD".parse::<Currency>().unwrap()) {
                let name = mapped.object["event"].as_str().unwrap();
                prop_assert!(name.starts_with("conversion_"), "{}", name);
            }
        }
    }
}
