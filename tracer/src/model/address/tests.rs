//! Tests of `address`: every registry row at its edges, and the laws that hold for all addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn class(text: &str) -> RemoteClass {
    remote_class(ip(text), &BTreeSet::new())
}

#[track_caller]
fn assert_class(expected: RemoteClass, addresses: &[&str]) {
    for address in addresses {
        assert_eq!(class(address), expected, "{address}");
    }
}

#[test]
fn bind_scope_counts_v4_mapped_forms_as_ipv4() {
    for any in ["0.0.0.0", "::", "::ffff:0.0.0.0"] {
        assert_eq!(bind_scope(ip(any)), BindScope::Any, "{any}");
    }
    for loopback in ["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.53"] {
        assert_eq!(bind_scope(ip(loopback)), BindScope::Loopback, "{loopback}");
    }
    for specific in ["128.0.0.0", "126.255.255.255", "::2", "::127.0.0.1", "fe80::1", "::ffff:10.0.0.1"] {
        assert_eq!(bind_scope(ip(specific)), BindScope::Specific, "{specific}");
    }
}

#[test]
fn ipv4_ranges_begin_and_end_where_the_registry_says() {
    assert_class(RemoteClass::Loopback, &["127.0.0.0", "127.255.255.255"]);
    assert_class(RemoteClass::LinkLocal, &["169.254.0.0", "169.254.255.255"]);
    assert_class(RemoteClass::Shared, &["100.64.0.0", "100.127.255.255"]);
    assert_class(RemoteClass::Multicast, &["224.0.0.0", "239.255.255.255"]);
    assert_class(RemoteClass::Broadcast, &["255.255.255.255"]);
    assert_class(
        RemoteClass::Private,
        &["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255"],
    );
    assert_class(
        RemoteClass::Reserved,
        &["0.0.0.0", "0.255.255.255", "192.0.0.0", "192.0.0.8", "192.0.0.11", "192.0.0.170", "192.0.0.255"],
    );
    assert_class(RemoteClass::Reserved, &["192.0.2.0", "192.0.2.255", "198.51.100.1", "203.0.113.255"]);
    assert_class(RemoteClass::Reserved, &["192.88.99.2", "198.18.0.0", "198.19.255.255"]);
    assert_class(RemoteClass::Reserved, &["240.0.0.0", "255.255.255.254"]);
}

#[test]
fn ipv4_neighbours_of_special_ranges_are_internet() {
    assert_class(RemoteClass::Internet, &["1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255"]);
    assert_class(RemoteClass::Internet, &["100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255"]);
    assert_class(RemoteClass::Internet, &["169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0"]);
    assert_class(RemoteClass::Internet, &["192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255"]);
    assert_class(RemoteClass::Internet, &["198.20.0.0", "198.51.99.255", "203.0.114.0", "223.255.255.255"]);
}

#[test]
fn globally_reachable_special_addresses_are_internet() {
    assert_class(RemoteClass::Internet, &["192.0.0.9", "192.0.0.10", "192.31.196.1", "192.52.193.1"]);
    assert_class(RemoteClass::Internet, &["192.88.99.1", "192.175.48.1", "2620:4f:8000::1"]);
    assert_class(RemoteClass::Internet, &["2001:1::1", "2001:1::2", "2001:1::3", "2001:3::1"]);
    assert_class(RemoteClass::Internet, &["2001:4:112::1", "2001:20::1", "2001:2f::1", "2001:30::1"]);
}

#[test]
fn ipv6_ranges_begin_and_end_where_the_registry_says() {
    assert_class(RemoteClass::Loopback, &["::1"]);
    assert_class(RemoteClass::LinkLocal, &["fe80::", "febf:ffff::1"]);
    assert_class(RemoteClass::Private, &["fc00::", "fdff:ffff::1"]);
    assert_class(RemoteClass::Multicast, &["ff00::", "ff02::fb", "ff0e::1"]);
    assert_class(RemoteClass::Internet, &["2000::", "2001:200::", "2600::1", "3ffe:ffff::1", "2001:db7::1"]);
    assert_class(RemoteClass::Reserved, &["::", "::2", "::1.2.3.4", "100::1", "100:0:0:1::1", "5f00::1"]);
    assert_class(RemoteClass::Reserved, &["2001:1::", "2001:1::4", "2001:2::1", "2001:10::1", "2001:1ff::1"]);
    assert_class(RemoteClass::Reserved, &["2001:db8::1", "3fff::1", "3fff:fff::1", "64:ff9b:1::8.8.8.8"]);
    assert_class(RemoteClass::Reserved, &["4000::1", "fbff::1", "fe00::1", "fec0::1"]);
}

#[test]
fn v4_mapped_and_nat64_addresses_are_classed_by_the_ipv4_address_inside() {
    assert_class(RemoteClass::Private, &["::ffff:10.0.0.1", "64:ff9b::10.0.0.1"]);
    assert_class(RemoteClass::Internet, &["::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]);
    assert_class(RemoteClass::Shared, &["::ffff:100.64.0.1", "64:ff9b::100.64.0.1"]);
    assert_class(RemoteClass::Loopback, &["::ffff:127.0.0.1"]);
}

#[test]
fn loopback_behind_nat64_is_not_this_host() {
    assert_class(RemoteClass::Reserved, &["64:ff9b::127.0.0.1"]);
}

#[test]
fn automatic_tunnels_reach_the_internet_only_over_a_global_ipv4_address() {
    assert_class(RemoteClass::Internet, &["2002:808:808::1", "2001:0:5ef5:79fb:0:1:f7f7:f7f7"]);
    assert_class(
        RemoteClass::Reserved,
        &["2002:a00:1::1", "2002:7f00:1::", "2001:0:5ef5:79fb:0:1:f5ff:fffe"],
    );
}

#[test]
fn own_comes_after_loopback_and_before_every_range() {
    let own = BTreeSet::from([ip("127.0.0.1"), ip("10.0.0.1"), ip("8.8.8.8"), ip("fe80::1")]);
    assert_eq!(remote_class(ip("127.0.0.1"), &own), RemoteClass::Loopback);
    for address in ["10.0.0.1", "::ffff:10.0.0.1", "8.8.8.8", "fe80::1"] {
        assert_eq!(remote_class(ip(address), &own), RemoteClass::Own, "{address}");
    }
    assert_eq!(remote_class(ip("10.0.0.2"), &own), RemoteClass::Private);
    assert_eq!(remote_class(ip("64:ff9b::8.8.8.8"), &own), RemoteClass::Internet);
}

#[test]
fn no_registry_row_is_hidden_behind_an_earlier_one() {
    for (index, block) in BLOCKS_V4.iter().enumerate() {
        let hides = |earlier: &Block<Ipv4Addr>| earlier.bits <= block.bits && earlier.contains(block.prefix);
        assert!(!BLOCKS_V4[..index].iter().any(hides), "{}", block.prefix);
        assert!(block.prefix.to_bits().trailing_zeros() + block.bits >= 32, "{}", block.prefix);
    }
    for (index, block) in BLOCKS_V6.iter().enumerate() {
        let hides = |earlier: &Block<Ipv6Addr>| earlier.bits <= block.bits && earlier.contains(block.prefix);
        assert!(!BLOCKS_V6[..index].iter().any(hides), "{}", block.prefix);
        assert!(block.prefix.to_bits().trailing_zeros() + block.bits >= 128, "{}", block.prefix);
    }
}

#[test]
fn overlap_follows_family_and_v6only() {
    let overlap = |a: &str, a_v6only, b: &str, b_v6only| scopes_overlap((ip(a), a_v6only), (ip(b), b_v6only));
    assert!(overlap("0.0.0.0", false, "10.0.0.1", false));
    assert!(overlap("0.0.0.0", false, "0.0.0.0", false));
    assert!(overlap("::", false, "10.0.0.1", false));
    assert!(overlap("::", false, "0.0.0.0", false));
    assert!(overlap("::", false, "::", true));
    assert!(overlap("::", true, "fe80::1", true));
    assert!(overlap("::ffff:0.0.0.0", false, "127.0.0.1", false));
    assert!(overlap("::ffff:10.0.0.1", false, "10.0.0.1", false));
    assert!(!overlap("::", true, "0.0.0.0", false));
    assert!(!overlap("::", true, "::ffff:10.0.0.1", false));
    assert!(!overlap("0.0.0.0", false, "2600::1", false));
    assert!(!overlap("10.0.0.1", false, "10.0.0.2", false));
    assert!(!overlap("::ffff:0.0.0.0", false, "2600::1", false));
}

#[test]
fn names_are_the_same_in_text_and_json() {
    for class in RemoteClass::ALL {
        assert_eq!(serde_json::to_string(&class).unwrap(), format!("\"{class}\""));
        assert_eq!(class.as_str().parse(), Ok(class));
    }
    for scope in [BindScope::Any, BindScope::Specific, BindScope::Loopback] {
        assert_eq!(serde_json::from_str::<BindScope>(&format!("\"{scope}\"")).unwrap(), scope);
    }
    for direction in [Direction::Inbound, Direction::Outbound] {
        assert_eq!(serde_json::from_str::<Direction>(&format!("\"{direction}\"")).unwrap(), direction);
    }
    assert_eq!("Internet".parse::<RemoteClass>(), Err(UnknownRemoteClass));
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        any::<u32>().prop_map(|bits| IpAddr::V6(Ipv4Addr::from_bits(bits).to_ipv6_mapped())),
        Just(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        Just(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        Just(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ]
}

proptest! {
    #[test]
    fn class_and_scope_do_not_depend_on_the_v4_mapped_form(bits: u32) {
        let plain = Ipv4Addr::from_bits(bits);
        let mapped = IpAddr::V6(plain.to_ipv6_mapped());
        let own = BTreeSet::new();
        prop_assert_eq!(canonical(mapped), IpAddr::V4(plain));
        prop_assert_eq!(remote_class(mapped, &own), remote_class(IpAddr::V4(plain), &own));
        prop_assert_eq!(bind_scope(mapped), bind_scope(IpAddr::V4(plain)));
    }

    #[test]
    fn addresses_are_spelt_as_the_standard_library_displays_them(ip in address()) {
        let mut text = String::new();
        spell(ip, |part| text.push_str(str::from_utf8(part).unwrap()));
        prop_assert_eq!(text, ip.to_string());
    }

    #[test]
    fn classes_agree_with_the_standard_library(ip in address()) {
        let class = remote_class(ip, &BTreeSet::new());
        let ip = canonical(ip);
        prop_assert_eq!(class == RemoteClass::Loopback, ip.is_loopback());
        if let IpAddr::V4(ip) = ip {
            prop_assert_eq!(class == RemoteClass::Private, ip.is_private());
            prop_assert_eq!(class == RemoteClass::LinkLocal, ip.is_link_local());
            prop_assert_eq!(class == RemoteClass::Multicast, ip.is_multicast());
            prop_assert_eq!(class == RemoteClass::Broadcast, ip.is_broadcast());
        }
    }

    #[test]
    fn own_addresses_are_own_or_loopback(ip in address()) {
        let class = remote_class(ip, &BTreeSet::from([canonical(ip)]));
        prop_assert!(matches!(class, RemoteClass::Own | RemoteClass::Loopback));
    }

    #[test]
    fn overlap_is_symmetric_and_reflexive(a in address(), a_only: bool, b in address(), b_only: bool) {
        prop_assert!(scopes_overlap((a, a_only), (a, a_only)));
        prop_assert_eq!(scopes_overlap((a, a_only), (b, b_only)), scopes_overlap((b, b_only), (a, a_only)));
    }

    #[test]
    fn the_dual_stack_any_address_overlaps_everything(a in address(), a_only: bool) {
        prop_assert!(scopes_overlap((a, a_only), (Ipv6Addr::UNSPECIFIED.into(), false)));
    }

    #[test]
    fn canonical_is_idempotent(a in address()) {
        prop_assert_eq!(canonical(canonical(a)), canonical(a));
    }
}
