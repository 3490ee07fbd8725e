//! What a network's postback means: from parameters of any name to the fields of an event. Pure.
//!
//! A [`Recipe`] is one source's `[sources.NAME]` table, compiled: which parameter is which of our fields, what names the
//! event, how amounts are written, what is answered, how a hash is checked. Recipes of well-known networks are data in
//! [`presets`]; the configuration lays its own keys over them.
//!
//! Invariants: a status that was not approved never gets the name of a sale; an amount is read by its declared style or
//! refused; a parameter nobody mapped is kept under `data`, the token and the hash never are.

pub mod amount;
pub mod event_name;
pub mod field;
pub mod parameters;
pub mod pick;
pub mod placeholder;
pub mod presets;
pub mod recipe;
pub mod signature;

pub use recipe::{Mapped, Names, Outcome, Recipe};

/// The parameter that carries the source's token; it is no part of an event, wherever it stands.
pub const TOKEN: &str = "token";

/// Something about a postback that cannot be accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The field of ours (`value`, `user.email`), or the name of a parameter that belongs to none.
    pub field: String,
    /// Stable, for programs.
    pub code: &'static str,
    /// What is wrong and what to send instead, for people.
    pub detail: String,
}

impl Fault {
    pub fn new(field: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { field: field.into(), code, detail: detail.into() }
    }
}
