//! Where a list of the API goes on.

use serde_json::Value;

/// The cursor of an answer; `None` at the end. An answer that leads back to where it was asked for would never end.
pub fn next(answer: &Value, asked: Option<&str>) -> anyhow::Result<Option<String>> {
    let next = answer.get("cursor").and_then(Value::as_str);
    anyhow::ensure!(
        next.is_none() || next != asked,
        "the daemon answered the cursor it was asked with: this would never end"
    );
    Ok(next.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_that_leads_back_to_itself_is_refused() {
        let page = json!({ "cursor": "dlv_1" });
        assert_eq!(next(&page, Some("dlv_2")).unwrap().as_deref(), Some("dlv_1"));
        assert_eq!(next(&json!({ "cursor": null }), None).unwrap(), None);
        assert!(next(&page, Some("dlv_1")).is_err());
    }
}
