//! The only file that reads sockets.
//!
//! Plain loads through typed pointers: the verifier checks them at load, they cost no helper call,
//! and they work under lockdown where `bpf_probe_read_kernel` does not. Kprobes have addresses without
//! a type: the same loads go through that helper.

use core::{marker::PhantomData, mem::MaybeUninit};

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_probe_read_kernel};
use tracer_common::{
    ABSENT, FLAG_CONNECTED, FLAG_NO_BYTES, FLAG_PORT_BOUND, FLAG_V6ONLY, READS_COOKIE, Record,
};

use crate::maps::{offset, setting};

/// `AF_INET`
pub(crate) const INET: u16 = 2;
/// `AF_INET6`
pub(crate) const INET6: u16 = 10;
/// `IPPROTO_TCP`
pub(crate) const TCP: u16 = 6;
/// `IPPROTO_UDP`
pub(crate) const UDP: u16 = 17;
/// `IPPROTO_UDPLITE`
pub(crate) const UDPLITE: u16 = 136;

/// States of `include/net/tcp_states.h`; a connected UDP socket is `ESTABLISHED`.
pub(crate) const ESTABLISHED: u8 = 1;
pub(crate) const SYN_SENT: u8 = 2;
pub(crate) const SYN_RECV: u8 = 3;
pub(crate) const CLOSE: u8 = 7;
pub(crate) const LISTEN: u8 = 10;

/// 127.0.0.0/8 in network order.
const LOOPBACK_NET: u32 = 0x7f00_0000_u32.to_be();
const LOOPBACK_MASK: u32 = 0xff00_0000_u32.to_be();
/// `SOCK_DONE` of `enum sock_flags`: the peer's FIN has arrived.
const SOCK_DONE: u64 = 1 << 1;
/// `SOCK_BINDPORT_LOCK` of `include/net/sock.h`
const BINDPORT_LOCK: u8 = 8;
/// `ECONNABORTED`, for a connect that its own process gave up.
const ECONNABORTED: u32 = 103;
/// `EADDRNOTAVAIL`, for a connect that found no free port.
const EADDRNOTAVAIL: u32 = 99;

/// How a program knows the kernel's structures. A type, not a value: the verifier must not see the other way.
pub(crate) trait Reads: Copy {
    /// The verifier knows their types.
    const TYPED: bool;

    /// Loads a member of a structure.
    #[inline(always)]
    fn load<T: Copy>(base: *const u8, offset: u32) -> T {
        if Self::TYPED { plain(base, offset) } else { probe(base, offset) }
    }
}

/// Through pointers whose types the verifier knows.
#[derive(Clone, Copy)]
pub(crate) struct Typed;

impl Reads for Typed {
    const TYPED: bool = true;
}

/// By their addresses alone, as in kprobes.
#[derive(Clone, Copy)]
pub(crate) struct Addressed;

impl Reads for Addressed {
    const TYPED: bool = false;
}

/// Loads a member of a structure whose type the verifier knows; it refuses a wrong place.
#[inline(always)]
pub(crate) fn plain<T: Copy>(base: *const u8, offset: u32) -> T {
    // SAFETY: checked by the verifier, which knows the type of `base` and the value of `offset`;
    // faults are handled by the kernel.
    unsafe { core::ptr::read_volatile(base.add(offset as usize).cast::<T>()) }
}

/// Loads from any kernel address; what cannot be read is zero.
#[inline(always)]
pub(crate) fn probe<T: Copy>(base: *const u8, offset: u32) -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the helper survives any address, and writes all of the place or zeros it; every `T` that
    // is loaded is an integer or a pointer.
    unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            base.wrapping_add(offset as usize).cast(),
        );
        value.assume_init()
    }
}

/// `struct sock_common` or a structure that begins with it.
#[derive(Clone, Copy)]
pub(crate) struct Sock<R = Typed> {
    pub(crate) at: *const u8,
    _reads: PhantomData<R>,
    /// Inode number of its network namespace, read once: each load of a pointer is dear to the verifier.
    pub(crate) netns: u32,
}

impl<R: Reads> Sock<R> {
    /// The socket at an address that is not null.
    #[inline(always)]
    pub(crate) fn at(at: *const u8, _: R) -> Self {
        let net: *const u8 = R::load(at, offset!(net));
        Self { at, _reads: PhantomData, netns: R::load(net, offset!(net_inum)) }
    }

    /// True where [`Sock::is_aside`] is true of the socket at an address, which is all that is read of it.
    #[inline(always)]
    pub(crate) fn is_aside_at(at: *const u8, _: R) -> bool {
        Self { at, _reads: PhantomData, netns: 0 }.is_aside()
    }

    /// The same socket by a pointer of another type.
    #[inline(always)]
    pub(crate) fn seen_at(self, at: *const u8) -> Self {
        Self { at, ..self }
    }

    /// Loads a member of the socket.
    #[inline(always)]
    fn load<T: Copy>(self, offset: u32) -> T {
        R::load(self.at, offset)
    }

    #[inline(always)]
    pub(crate) fn family(self) -> u16 {
        self.load(offset!(family))
    }

    #[inline(always)]
    pub(crate) fn state(self) -> u8 {
        self.load(offset!(state))
    }

    #[inline(always)]
    pub(crate) fn is_inet(self) -> bool {
        let family = self.family();
        family == INET || family == INET6
    }

    /// IP protocol; only of a full socket.
    #[inline(always)]
    pub(crate) fn protocol(self) -> u16 {
        self.load(offset!(protocol))
    }

    #[inline(always)]
    pub(crate) fn is_tcp(self) -> bool {
        self.is_inet() && self.protocol() == TCP
    }

    #[inline(always)]
    pub(crate) fn is_udp(self) -> bool {
        self.is_inet() && matches!(self.protocol(), UDP | UDPLITE)
    }

    #[inline(always)]
    pub(crate) fn local_port(self) -> u16 {
        self.load(offset!(num))
    }

    #[inline(always)]
    pub(crate) fn remote_port(self) -> u16 {
        u16::from_be(self.load(offset!(dport)))
    }

    /// IPv4 remote, network order.
    #[inline(always)]
    pub(crate) fn remote_v4(self) -> u32 {
        self.load(offset!(daddr))
    }

    #[inline(always)]
    pub(crate) fn copy_remote_v6(self, to: &mut [u8; 16]) {
        self.copy(offset!(v6_daddr), to);
    }

    /// The socket's cookie. Where tracing programs may not ask for it, other programs have seen to it
    /// that there is one; 0 for the few sockets that have none.
    #[inline(always)]
    pub(crate) fn cookie(self) -> u64 {
        if R::TYPED && setting!(reads) & READS_COOKIE != 0 {
            // SAFETY: the verifier checks that the pointer is a socket.
            unsafe { bpf_get_socket_cookie(self.at as *mut _) }
        } else {
            self.load(offset!(cookie))
        }
    }

    /// True for a session with a loopback remote where the user left these aside: asked first, because it is true of most.
    /// A socket of another family than IP may pass for one, and nobody wants it either. A socket that was disconnected keeps
    /// the address and loses the port (`tcp_disconnect`), and may listen then.
    #[inline(always)]
    pub(crate) fn is_aside(self) -> bool {
        setting!(loopback_aside) != 0 && self.has_loopback_remote() && self.remote_port() != 0
    }

    #[inline(always)]
    fn has_loopback_remote(self) -> bool {
        if self.family() == INET {
            return self.remote_v4() & LOOPBACK_MASK == LOOPBACK_NET;
        }
        let (high, low): (u64, u64) = (self.load(offset!(v6_daddr)), self.load(offset!(v6_daddr) + 8));
        is_loopback(high, low)
    }

    /// Writes what `struct sock_common` holds: every socket has it, request and time-wait ones too.
    #[inline(always)]
    pub(crate) fn fill_common(self, record: &mut Record, cookie: u64) {
        let family = self.family();
        record.sock = self.at as u64;
        record.cookie = cookie;
        record.netns = self.netns;
        record.family = family as u8;
        record.state = self.state();
        record.local_port = self.local_port();
        record.remote_port = self.remote_port();
        if self.load::<u8>(offset!(ipv6only)) & offset!(ipv6only_mask) as u8 != 0 {
            record.flags |= FLAG_V6ONLY;
        }
        if family == INET6 {
            self.copy(offset!(v6_rcv_saddr), &mut record.local);
            self.copy(offset!(v6_daddr), &mut record.remote);
        } else {
            put_v4(&mut record.local, self.load(offset!(rcv_saddr)));
            put_v4(&mut record.remote, self.remote_v4());
        }
    }

    /// Writes a full socket, in a tracing program.
    #[inline(always)]
    pub(crate) fn fill(self, record: &mut Record) {
        self.fill_with(record, self.cookie());
    }

    /// Writes a full socket whose cookie is known: not every kind of program may ask for it by the
    /// socket.
    #[inline(always)]
    pub(crate) fn fill_with(self, record: &mut Record, cookie: u64) {
        self.fill_common(record, cookie);
        record.protocol = self.protocol();
        if offset!(userlocks) != ABSENT {
            let locks = self.load::<u8>(offset!(userlocks)) >> offset!(userlocks_shift);
            if locks & BINDPORT_LOCK != 0 {
                record.flags |= FLAG_PORT_BOUND;
            }
        }
        if record.protocol != TCP && record.state == ESTABLISHED {
            record.flags |= FLAG_CONNECTED;
        }
    }

    /// The source port that the last packet had or would have had; it outlives the binding.
    #[inline(always)]
    pub(crate) fn source_port(self, tcp: *const u8) -> u16 {
        u16::from_be(R::load(tcp, offset!(inet_sport)))
    }

    /// Payload bytes of a TCP connection. `bytes_received` counts the peer's FIN as one byte.
    #[inline(always)]
    pub(crate) fn fill_bytes(self, tcp: *const u8, record: &mut Record) {
        if offset!(bytes_sent) == ABSENT
            || offset!(bytes_retrans) == ABSENT
            || offset!(bytes_received) == ABSENT
        {
            record.flags |= FLAG_NO_BYTES;
            return;
        }
        let sent: u64 = R::load(tcp, offset!(bytes_sent));
        let again: u64 = R::load(tcp, offset!(bytes_retrans));
        let received: u64 = R::load(tcp, offset!(bytes_received));
        let flags: u64 = self.load(offset!(flags));
        let fin = if flags & SOCK_DONE != 0 && received > 0 { 1 } else { 0 };
        record.bytes_sent = sent.saturating_sub(again);
        record.bytes_received = received - fin;
    }

    /// True when a TCP connection has sent payload; not known to the kernel, it has not.
    #[inline(always)]
    pub(crate) fn has_sent(self, tcp: *const u8) -> bool {
        offset!(bytes_sent) != ABSENT && R::load::<u64>(tcp, offset!(bytes_sent)) != 0
    }

    /// Why a connect failed: the socket's error, or what the way of its end tells; `port` is the one
    /// that the socket had, 0 when it got none.
    #[inline(always)]
    pub(crate) fn connect_error(self, port: u16) -> u32 {
        let error: u32 = self.load(offset!(err));
        if error != 0 {
            error
        } else if port == 0 {
            EADDRNOTAVAIL
        } else {
            ECONNABORTED
        }
    }

    /// True while no process has the socket: it waits in a listener's queue, or nobody owns it.
    #[inline(always)]
    pub(crate) fn is_unowned(self) -> bool {
        self.load::<u64>(offset!(sk_socket)) == 0
    }

    #[inline(always)]
    fn copy(self, offset: u32, to: &mut [u8; 16]) {
        let words = to.as_mut_ptr().cast::<u64>();
        // SAFETY: 16 bytes at an offset of the record that is a multiple of 8.
        unsafe {
            words.write(self.load(offset));
            words.add(1).write(self.load(offset + 8));
        }
    }
}

/// True for `::1` and the v4-mapped addresses of 127.0.0.0/8, given as two words of memory.
#[inline(always)]
pub(crate) fn is_loopback(high: u64, low: u64) -> bool {
    let mapped = (0xffff_0000_u32.to_le() as u64) | (u64::from(LOOPBACK_NET) << 32);
    let mask = u64::from(u32::MAX) | (u64::from(LOOPBACK_MASK) << 32);
    high == 0 && (low == 1_u64.to_be() || low & mask == mapped)
}

/// Writes an IPv4 address (network order) in its v4-mapped form.
#[inline(always)]
pub(crate) fn put_v4(to: &mut [u8; 16], address: u32) {
    let words = to.as_mut_ptr().cast::<u32>();
    // SAFETY: 16 bytes at an offset of the record that is a multiple of 8.
    unsafe {
        words.write(0);
        words.add(1).write(0);
        words.add(2).write(0xffff_0000_u32.to_le());
        words.add(3).write(address);
    }
}
