use super::*;

fn brought<'a>(shown: &'a str, joined: &'a str) -> Brought<'a> {
    Brought {
        shown: (!shown.is_empty()).then_some(shown),
        joined: (!joined.is_empty()).then_some(joined),
    }
}

fn after(session: &Session) -> String {
    session.carried().unwrap().header()
}

#[test]
fn a_join_replaces_what_was_sent() {
    let session = Session::default();
    assert!(session.carried().unwrap().is_empty());
    assert_eq!(session.to_keep(), None);
    session.learn(&Carried::default(), brought("a", ""));
    assert_eq!(after(&session), "a");
    let sent = session.carried().unwrap();
    session.learn(&sent, brought("b", "ab"));
    assert_eq!(after(&session), "ab");
    // An answer without a cursor, such as a list of regions.
    let sent = session.carried().unwrap();
    session.learn(&sent, brought("", "ab2"));
    assert_eq!(after(&session), "ab2");
}

#[test]
fn what_came_meanwhile_stays() {
    let session = Session::default();
    session.add("a");
    let (one, other) = (session.carried().unwrap(), session.carried().unwrap());
    session.add("m");
    session.learn(&one, brought("b", "ab"));
    assert_eq!(after(&session), "m,ab");
    // The other call had sent the same, which `ab` covers: what it showed is enough.
    session.learn(&other, brought("c", "ac"));
    assert_eq!(after(&session), "m,ab,c");
    let sent = session.carried().unwrap();
    session.learn(&sent, brought("c", "abcm"));
    assert_eq!(after(&session), "abcm");
}

#[test]
fn more_than_a_header_holds_is_joined_first_and_nothing_is_dropped() {
    let session = Session::default();
    let long = |letter: &str| letter.repeat(HEADER_BYTES_MAX / 3 + 1);
    for letter in ["a", "b", "c", "d"] {
        session.add(&long(letter));
    }
    assert!(session.is_large());
    let one = Session::default();
    one.add(&long("a"));
    assert!(!one.is_large(), "there is nothing to join");
    let part = session.carried().unwrap_err();
    assert_eq!(part.0.len(), 2, "with commas no third one fits");
    assert!(part.header().len() <= HEADER_BYTES_MAX);
    session.learn(&part, brought("", "ab"));
    let rest = session.carried().unwrap();
    assert_eq!(
        rest.header(),
        [long("c"), long("d"), "ab".to_owned()].join(",")
    );
    // Two that don't fit are joined all the same.
    let session = Session::default();
    session.add(&"x".repeat(HEADER_BYTES_MAX));
    assert_eq!(after(&session).len(), HEADER_BYTES_MAX);
    session.add(&"y".repeat(HEADER_BYTES_MAX));
    let both = session.carried().unwrap_err();
    assert_eq!(both.header().len(), limits::AFTER_BYTES_MAX);
}

#[test]
fn what_is_lost_is_not_carried_and_not_forgotten() {
    let now = Instant::now();
    let session = Session::default();
    session.add("eu1");
    let sent = session.carried().unwrap();
    session.add("us1");
    assert!(session.lose(&sent, &["eu".to_owned()], now));
    // Another call that had sent the same gives it up, too.
    assert!(session.lose(&sent, &["eu".to_owned()], now));
    assert_eq!(after(&session), "us1");
    assert_eq!(session.stale(), ["eu"]);
    assert_eq!(session.to_keep().unwrap(), "us1,eu1");

    session.regain(now, |region, since| {
        assert_eq!((region, since), ("eu", now));
        Some(false)
    });
    assert_eq!(session.stale(), ["eu"]);
    session.regain(now, |_, _| Some(true));
    assert_eq!(after(&session), "us1,eu1");
    assert!(session.stale().is_empty());
}

#[test]
fn a_region_of_unknown_address_is_asked_for_its_part_again() {
    let now = Instant::now();
    let session = Session::default();
    session.add("eu1");
    session.lose(&session.carried().unwrap(), &["eu".to_owned()], now);
    session.regain(now + ASK_AGAIN_AFTER, |_, _| None);
    assert_eq!(session.stale(), ["eu"]);
    session.regain(now + ASK_AGAIN_AFTER * 2, |_, _| None);
    assert_eq!(after(&session), "eu1");
}

#[test]
fn too_much_is_not_given_up() {
    let session = Session::default();
    let mut lost = 0;
    for n in 0..1000 {
        session.add(&format!("{n:0>1000}"));
        if !session.lose(
            &session.carried().unwrap(),
            &["eu".to_owned()],
            Instant::now(),
        ) {
            break;
        }
        lost += 1;
    }
    assert_eq!(lost, LOST_BYTES_MAX / 1000);
    assert_eq!(
        after(&session).len(),
        1000,
        "what is not given up is carried on"
    );
}

#[test]
fn a_session_is_resumed_with_cursors_only() {
    let session = Session::default();
    session.resume("AbC-1, d_e").unwrap();
    assert_eq!(after(&session), "AbC-1,d_e");
    for bad in ["", "a,", "a b", "gr\u{fc}n", "a\nb"] {
        assert!(session.resume(bad).is_err(), "{bad}");
    }
}
