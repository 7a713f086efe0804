use super::*;

fn parse(body: &str) -> Result<Order, String> {
    Order::parse(body.as_bytes())
}

#[test]
fn names_come_as_a_string_or_a_list() {
    let order = parse(r#"{"urls": "a.example/x", "tags": ["1", "2"], "prefix": "b.example"}"#).unwrap();
    assert_eq!(order.urls, [Address::parse("a.example/x").unwrap()]);
    assert_eq!(order.tags, ["1", "2"]);
    assert_eq!(order.prefixes, [Address::parse("b.example/").unwrap()]);
    assert_eq!((order.soft, order.wait, order.all, order.bucket), (false, None, false, None));
    let order = parse(r#"{"bucket": "media", "soft": true, "wait": "cluster"}"#).unwrap();
    assert_eq!((order.bucket.as_deref(), order.soft, order.wait), (Some("media"), true, Some(Wait::Cluster)));
    assert!(parse(r#"{"all": true}"#).unwrap().all);
}

#[test]
fn what_cannot_be_meant_is_refused_and_says_why() {
    for (body, why) in [
        ("", "not JSON"),
        ("[]", "not an object"),
        ("{}", "names nothing"),
        (r#"{"soft": true}"#, "names nothing"),
        (r#"{"all": false}"#, "names nothing"),
        (r#"{"urls": []}"#, "names nothing"),
        (r#"{"url": "a/x"}"#, "did you mean `urls`?"),
        (r#"{"everything": true}"#, "there are urls, tags, prefix, bucket, all, soft, wait"),
        (r#"{"urls": 1}"#, "`urls` is a number"),
        (r#"{"urls": ["a/x", null]}"#, "`urls[]` is null"),
        (r#"{"urls": "/x"}"#, "no valid host"),
        (r#"{"prefix": "a.example/img/*"}"#, "write \"a.example/img/\""),
        (r#"{"tags": ""}"#, "a tag has 1 to"),
        (r#"{"bucket": ["a"]}"#, "`bucket` is a list"),
        (r#"{"all": "true"}"#, "true or false"),
        (r#"{"all": true, "wait": "forever"}"#, "\"local\" or \"cluster\""),
    ] {
        let refused = parse(body).unwrap_err();
        assert!(refused.contains(why), "{body}: {refused}");
    }
}

#[test]
fn too_many_things_are_refused() {
    let tags = vec!["\"t\""; MOST + 1].join(",");
    assert!(parse(&format!("{{\"tags\": [{tags}]}}")).unwrap_err().contains("send it in parts"));
}
