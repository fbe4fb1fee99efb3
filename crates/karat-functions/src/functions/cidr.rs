//! Functions on address blocks.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dashu_int::IBig;
use karat_value::{Type, Value};

use super::collections::fixed;
use crate::args::{Outcome, fail_at, string, text, whole};
use crate::function::{CallContext, Function, FunctionError, Kind, Param};

const PREFIX: Param = Param::new("prefix", Kind::String);
/// The most bits by which a prefix may be extended.
const MAX_NEW_BITS: i64 = 32;

const fn unrefined(function: Function) -> Function {
    Function { not_null: false, ..function }
}

/// All functions of this group.
pub(crate) const FUNCTIONS: &[Function] = &[
    unrefined(fixed(
        "cidrhost",
        &[PREFIX, Param::new("hostnum", Kind::Number)],
        Kind::String,
        "Gives the address with a number in an address block; negative numbers count from its end.",
        &[("cidrhost(\"10.0.0.0/8\", -1)", "10.255.255.255")],
        cidrhost,
    )),
    unrefined(fixed(
        "cidrnetmask",
        &[PREFIX],
        Kind::String,
        "Gives the mask of an address block as an address.",
        &[("cidrnetmask(\"10.0.0.0/8\")", "255.0.0.0")],
        |args, _, _| {
            let block = Block::read(&args[0])?;
            string(block.show_address(&block.mask_bits()))
        },
    )),
    unrefined(fixed(
        "cidrsubnet",
        &[PREFIX, Param::new("newbits", Kind::Number), Param::new("netnum", Kind::Number)],
        Kind::String,
        "Gives the block with a number among those whose prefixes are longer by some bits.",
        &[("cidrsubnet(\"10.0.0.0/16\", 8, 255)", "10.0.255.0/24")],
        cidrsubnet,
    )),
    unrefined(Function {
        variadic: Some(Param::new("newbits", Kind::Number)),
        ..fixed(
            "cidrsubnets",
            &[PREFIX],
            Kind::ListOfString,
            "Lays out blocks one after the other, each with a prefix longer by its number of bits.",
            &[("cidrsubnets(\"10.1.0.0/16\", 8, 4)", "[\"10.1.0.0/24\", \"10.1.16.0/20\"]")],
            cidrsubnets,
        )
    }),
];

/// A block of addresses, those of IPv4 with 32 bits, all others with 128.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// The first address.
    first: u128,
    /// The length of the prefix.
    prefix: u32,
    /// The length of an address.
    width: u32,
}

impl Block {
    fn read(arg: &Value) -> Result<Self, FunctionError> {
        let text = text(arg);
        Self::parse(text).ok_or_else(|| {
            FunctionError::argument(
                0,
                format!("{text:?} is no address block; one looks like 10.0.0.0/8 or fd00::/8"),
            )
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let (bits, width) = match address.parse::<IpAddr>().ok()? {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let prefix = prefix.parse::<u32>().ok().filter(|prefix| *prefix <= width)?;
        let block = Self { first: 0, prefix, width };
        Some(Self { first: bits & block.mask_bits(), ..block })
    }

    /// All bits of an address.
    fn all(&self) -> u128 {
        if self.width == 128 { u128::MAX } else { (1 << self.width) - 1 }
    }

    /// The bits of the addresses in the block.
    fn host_bits(&self) -> u128 {
        self.all().checked_shr(self.prefix).unwrap_or(0)
    }

    fn mask_bits(&self) -> u128 {
        self.all() & !self.host_bits()
    }

    fn contains(&self, address: u128) -> bool {
        address & self.mask_bits() == self.first
    }

    /// Is it an IPv4 address in the clothes of IPv6?
    fn is_mapped(&self, address: u128) -> bool {
        self.width == 128 && address >> 32 == 0xffff
    }

    fn show_address(&self, address: &u128) -> String {
        if self.width == 32 || self.is_mapped(*address) {
            Ipv4Addr::from_bits(*address as u32).to_string()
        } else {
            Ipv6Addr::from_bits(*address).to_string()
        }
    }

    fn show(&self) -> String {
        let prefix =
            if self.is_mapped(self.first) { self.prefix.saturating_sub(96) } else { self.prefix };
        format!("{}/{prefix}", self.show_address(&self.first))
    }

    /// Puts a number into an address so that it ends at a bit counted from the front.
    fn insert(&self, number: IBig, end: i64) -> Option<u128> {
        let shift = usize::try_from(i64::from(self.width) - end).ok()?;
        let joined = IBig::from(self.first) | (number << shift);
        u128::try_from(joined).ok().filter(|bits| *bits <= self.all())
    }
}

fn cidrhost(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let number = whole(&args[1]).map_err(|error| FunctionError::argument(1, error.message))?;
    let block = Block::read(&args[0])?;
    let last = block.host_bits();
    let distance = if number < 0 { -(i128::from(number) + 1) } else { i128::from(number) };
    if u128::try_from(distance).is_ok_and(|distance| distance > last) {
        let message =
            format!("a prefix of {} bits has no room for a host numbered {number}", block.prefix);
        return fail_at(1, message);
    }
    let number =
        if number < 0 { IBig::from(last) - IBig::from(distance) } else { IBig::from(number) };
    // The number of an IPv4 address in IPv6 clothes goes where it would go in IPv4.
    let end = if block.width == 32 || block.is_mapped(block.first) { 32 } else { 128 };
    match block.insert(number, end) {
        Some(address) => string(block.show_address(&address)),
        None => fail_at(1, "the host does not fit into an address"),
    }
}

fn cidrsubnet(args: &[Value], _: &Type, _: &dyn CallContext) -> Outcome {
    let new_bits = whole(&args[1]).map_err(|error| FunctionError::argument(1, error.message))?;
    let number = whole(&args[2]).map_err(|error| FunctionError::argument(2, error.message))?;
    let block = Block::read(&args[0])?;
    if new_bits > MAX_NEW_BITS {
        return fail_at(1, format!("must not extend the prefix by more than {MAX_NEW_BITS} bits"));
    }
    let prefix = i64::from(block.prefix).saturating_add(new_bits);
    if prefix > i64::from(block.width) {
        let message = format!(
            "a prefix of {} bits cannot be extended by {new_bits}: an address has {}",
            block.prefix, block.width
        );
        return fail_at(1, message);
    }
    let Ok(short) = u32::try_from(prefix) else {
        return fail_at(1, "must not shorten the prefix below 0 bits");
    };
    let limit = if new_bits < 0 { u64::MAX } else { (1 << new_bits) - 1 };
    if number < 0 {
        return fail_at(2, "the number of the block must not be negative");
    }
    if number.unsigned_abs() > limit {
        let message = format!("an extension of {new_bits} bits has no block numbered {number}");
        return fail_at(2, message);
    }
    match block.insert(IBig::from(number), prefix) {
        Some(first) => string(Block { first, prefix: short, ..block }.show()),
        None => fail_at(2, "the block does not fit into the addresses"),
    }
}

fn cidrsubnets(args: &[Value], ty: &Type, _: &dyn CallContext) -> Outcome {
    let block = Block::read(&args[0])?;
    if args.len() > 1 && block.is_mapped(block.first) {
        return fail_at(0, "an IPv4 block in IPv6 clothes; write it as IPv4");
    }
    let mut blocks = Vec::with_capacity(args.len() - 1);
    let mut current: Option<Block> = None;
    for (index, arg) in args.iter().enumerate().skip(1) {
        let bits = whole(arg).map_err(|error| FunctionError::argument(index, error.message))?;
        if bits < 1 {
            return fail_at(index, "must extend the prefix by at least one bit");
        }
        if bits > MAX_NEW_BITS {
            let message = format!("must not extend the prefix by more than {MAX_NEW_BITS} bits");
            return fail_at(index, message);
        }
        let prefix = block.prefix + bits as u32;
        if prefix > block.width {
            let message = format!("a prefix of {prefix} bits is longer than an address");
            return fail_at(index, message);
        }
        let next = Block { prefix, ..block };
        // The block before the first one ends right before the whole.
        let before = current.map_or(block.first.wrapping_sub(1) & block.all(), |current| {
            current.first | current.host_bits()
        });
        let last = before | next.host_bits();
        let first = last.wrapping_add(1) & block.all() & next.mask_bits();
        if last == block.all() || !block.contains(first) {
            return fail_at(
                index,
                format!("no room is left for a block with a prefix of {prefix} bits"),
            );
        }
        let next = Block { first, ..next };
        blocks.push(Value::string(next.show()));
        current = Some(next);
    }
    Ok(super::collections::sequence(ty, blocks))
}
