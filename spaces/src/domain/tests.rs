//! What every domain keeps to.

use proptest::prelude::*;

use super::*;

fn any_domain() -> impl Strategy<Value = Domain> {
    prop_oneof![
        (-1e3..1e3f64, 0.0..1e3f64).prop_map(|(l, w)| Domain::float(l, l + w, false, None).unwrap()),
        (1e-6..1.0f64, 0.0..1e3f64).prop_map(|(l, w)| Domain::float(l, l + w, true, None).unwrap()),
        (-9..9i64, 1..40i64, 1..7i64).prop_map(|(l, n, s)| Domain::int(l, l + n * s, false, s).unwrap()),
        (1..9i64, 0..4000i64).prop_map(|(l, w)| Domain::int(l, l + w, true, 1).unwrap()),
        (-9i32..9, 1i32..40).prop_map(|(l, n)| {
            Domain::float(l.into(), f64::from(l) + f64::from(n) * 0.1, false, Some(0.1)).unwrap()
        }),
        (1..9i64).prop_map(|n| Domain::categorical((0..n).map(Value::Int).collect()).unwrap()),
    ]
}

proptest! {
    #[test]
    fn a_unit_gives_a_valid_value_and_comes_back(domain in any_domain(), unit in 0.0..=1.0f64) {
        let value = domain.from_unit(unit);
        prop_assert!(domain.contains(&value), "{value} not in {domain}");
        let back = domain.from_unit(domain.to_unit(&value).unwrap());
        match (value.as_f64(), back.as_f64()) {
            (Some(a), Some(b)) => prop_assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "{a} {b}"),
            _ => prop_assert_eq!(value, back),
        }
    }
}

#[test]
fn bad_domains_say_what_is_wrong() {
    let message = |d: Result<Domain, DomainError>| d.unwrap_err().to_string();
    assert!(message(Domain::int(6, 2, false, 1)).contains("[6, 2] is empty"));
    assert!(message(Domain::float(0.0, 1.0, true, None)).contains("cannot start at 0"));
    assert!(message(Domain::float(f64::NAN, 1.0, false, None)).contains("not a finite"));
    assert!(message(Domain::int(0, 8, false, 0)).contains("step 0"));
    assert!(message(Domain::categorical(vec![])).contains("empty"));
    assert!(message(Domain::categorical(vec![Value::Int(1), Value::Float(1.0)])).contains("twice"));
}

#[test]
fn log_integers_give_the_ends_their_share() {
    let domain = Domain::int(1, 8, true, 1).unwrap();
    let ones = (0..1000)
        .filter(|i| domain.from_unit(f64::from(*i) / 1000.0) == Value::Int(1))
        .count();
    assert!(ones > 300, "{ones}");
}

#[test]
fn types_and_grids_are_kept() {
    let width = Domain::int(64, 256, false, 32).unwrap();
    assert!(width.contains(&Value::Int(96)) && !width.contains(&Value::Int(100)));
    assert!(!width.contains(&Value::Text("96".into())));
    assert_eq!(
        Domain::float(0.0, 1.0, false, None)
            .unwrap()
            .canonical(&Value::Int(1)),
        Some(Value::Float(1.0))
    );
    assert!(width.covers(&Domain::categorical(vec![Value::Int(64), Value::Int(128)]).unwrap()));
    assert!(!width.covers(&Domain::int(64, 300, false, 4).unwrap()));
}
