//! G5, G13: concurrent edits merge, and a redaction beats them.

use std::collections::BTreeSet;

use whimbrel_client::api::ProblemCode;

use crate::harness::{Cluster, REGIONS, group, say};

/// G5: three regions that don't see each other edit one message.
#[tokio::test(flavor = "multi_thread")]
async fn g5_concurrent_edits_merge_and_nothing_vanishes() {
    let cluster = Cluster::start().await;
    let everywhere = cluster.everywhere("ana");
    let id = group(&everywhere[0], &[]).await;
    let original = say(&everywhere[0], &id, "the whimbrel crosses oceans")
        .await
        .message;
    cluster.converged().await;
    cluster.cut_all();

    let mut written = Vec::new();
    for (region, ana) in REGIONS.iter().zip(&everywhere) {
        let text = format!("the whimbrel of {region} crosses oceans");
        let call = ana.edit(&id, &original.id, &text, &original.revision);
        let edited = call.await.unwrap().value;
        assert_eq!(
            edited.text.as_ref(),
            Some(&text),
            "alone, one reads what one wrote"
        );
        assert!(!edited.merged);
        written.push((edited.revision, text));
    }
    // A second one on top of the first, in one region.
    let (base, _) = &written[2];
    let text = "the whimbrel of ap crosses the Pacific";
    let call = everywhere[2].edit(&id, &original.id, text, base);
    let second = call.await.unwrap().value;
    written.push((second.revision, text.to_owned()));

    cluster.heal_all();
    cluster.converged().await;
    let mut shown = BTreeSet::new();
    for ana in &everywhere {
        let message = ana.message(&id, &original.id).await.unwrap().value;
        assert!(message.edited && message.merged, "{message:?}");
        shown.insert((message.text.unwrap(), message.revision));
        let history = ana.history(&id, &original.id).await.unwrap().value;
        assert!(history.merged);
        let versions = history.versions;
        assert_eq!(versions.len(), 5, "{versions:#?}");
        assert_eq!(versions[0].text, "the whimbrel crosses oceans");
        for (revision, text) in &written {
            let version = versions.iter().find(|v| v.revision == *revision);
            let version = version.unwrap_or_else(|| panic!("`{text}` has vanished: {versions:#?}"));
            assert_eq!(
                (version.text.as_str(), version.author.as_str()),
                (text.as_str(), "ana")
            );
            let parent = match text.as_str() {
                "the whimbrel of ap crosses the Pacific" => &written[2].0,
                _ => &versions[0].revision,
            };
            assert_eq!(version.parents, std::slice::from_ref(parent), "of `{text}`");
        }
    }
    assert_eq!(shown.len(), 1, "{shown:?}");
    let (text, merged) = shown.into_iter().next().unwrap();
    for part in ["eu", "us", "ap", "Pacific"] {
        assert!(text.contains(part), "`{part}` was merged into `{text}`");
    }

    // Who writes on the merged text ends the merge.
    let call = everywhere[1].edit(&id, &original.id, "the whimbrel crosses them all", &merged);
    let settled = call.await.unwrap().value;
    assert!(!settled.merged);
    cluster.converged().await;
    for ana in &everywhere {
        let message = ana.message(&id, &original.id).await.unwrap().value;
        assert_eq!(
            message.text.as_deref(),
            Some("the whimbrel crosses them all")
        );
        assert!(message.edited && !message.merged);
        let history = ana.history(&id, &original.id).await.unwrap().value;
        assert_eq!((history.versions.len(), history.merged), (6, false));
        let last = history
            .versions
            .iter()
            .find(|v| v.revision == settled.revision);
        assert_eq!(last.unwrap().parents.len(), 3, "it was made on all heads");
    }
}

/// G5, G7: an edit that is sent again elsewhere is one version.
#[tokio::test(flavor = "multi_thread")]
async fn g5_an_edit_retried_elsewhere_is_one_version() {
    let cluster = Cluster::start().await;
    let [eu, us, ap] = cluster.everywhere("ana");
    let id = group(&eu, &[]).await;
    let message = say(&eu, &id, "hello").await.message;
    cluster.converged().await;
    cluster.cut_all();
    let (one, two) = (
        eu.edit(&id, &message.id, "hello world", &message.revision),
        us.edit(&id, &message.id, "hello world", &message.revision),
    );
    let one = one.key("again").await.unwrap().value;
    let two = two.key("again").await.unwrap().value;
    assert_eq!(one.revision, two.revision);
    cluster.heal_all();
    cluster.converged().await;
    let three = ap.edit(&id, &message.id, "hello world", &message.revision);
    let three = three.key("again").await.unwrap();
    assert_eq!(three.value.revision, one.revision);
    for client in [&eu, &us, &ap] {
        let shown = client.message(&id, &message.id).await.unwrap().value;
        assert_eq!(shown.text.as_deref(), Some("hello world"));
        assert!(!shown.merged);
        let history = client.history(&id, &message.id).await.unwrap().value;
        assert_eq!(history.versions.len(), 2, "{history:#?}");
    }
}

/// G13: whoever edits meanwhile, a redacted text is gone everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn g13_a_redaction_beats_concurrent_edits() {
    let cluster = Cluster::start().await;
    let everywhere = cluster.everywhere("ana");
    let [eu, us, ap] = &everywhere;
    let id = group(eu, &[]).await;
    let message = say(eu, &id, "a secret").await.message;
    cluster.converged().await;
    cluster.cut_all();
    let call = us.edit(&id, &message.id, "a secret, edited", &message.revision);
    call.await.unwrap();
    ap.react(&id, &message.id, "👀").await.unwrap();
    eu.redact(&id, &message.id).await.unwrap();
    cluster.heal_all();
    cluster.converged().await;
    for ana in &everywhere {
        let shown = ana.message(&id, &message.id).await.unwrap().value;
        assert!(shown.redacted && shown.text.is_none(), "{shown:?}");
        let base = &message.revision;
        let late = ana.edit(&id, &message.id, "back", base).await.unwrap_err();
        assert_eq!(late.code(), Some(ProblemCode::Redacted));
        let page = serde_json::to_string(&ana.messages(&id).await.unwrap().value).unwrap();
        assert!(!page.contains("secret"), "{page}");
        if let Ok(history) = ana.history(&id, &message.id).await {
            let history = serde_json::to_string(&history.value).unwrap();
            assert!(!history.contains("secret"), "{history}");
        }
    }
}
