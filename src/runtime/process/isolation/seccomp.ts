/**
 * The system calls that no worker needs and that exploits of the kernel start from, after the default profile of Docker:
 * mounting, namespaces, tracing, kernel modules and keys, clocks, io_uring. A call is refused with EPERM, as if a right were
 * missing, and the program goes on.
 *
 * Numbers of x86-64 and arm64, from the kernel's syscall tables; `null`: there is none of that name.
 */
const REFUSED: Readonly<Record<string, readonly [x64: number | null, arm64: number | null]>> = {
  acct: [163, 89],
  add_key: [248, 217],
  bpf: [321, 280],
  chroot: [161, 51],
  clock_adjtime: [305, 266],
  clock_settime: [227, 112],
  delete_module: [176, 106],
  fanotify_init: [300, 262],
  finit_module: [313, 273],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fsopen: [430, 430],
  fspick: [433, 433],
  init_module: [175, 105],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  io_uring_setup: [425, 425],
  ioperm: [173, null],
  iopl: [172, null],
  kcmp: [312, 272],
  kexec_file_load: [320, 294],
  kexec_load: [246, 104],
  keyctl: [250, 219],
  lookup_dcookie: [212, 18],
  mount: [165, 40],
  mount_setattr: [442, 442],
  move_mount: [429, 429],
  move_pages: [279, 239],
  name_to_handle_at: [303, 264],
  open_by_handle_at: [304, 265],
  open_tree: [428, 428],
  perf_event_open: [298, 241],
  pidfd_getfd: [438, 438],
  pivot_root: [155, 41],
  process_madvise: [440, 440],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  ptrace: [101, 117],
  quotactl: [179, 60],
  quotactl_fd: [443, 443],
  reboot: [169, 142],
  request_key: [249, 218],
  setns: [308, 268],
  settimeofday: [164, 170],
  swapoff: [168, 225],
  swapon: [167, 224],
  syslog: [103, 116],
  umount2: [166, 39],
  unshare: [272, 97],
  userfaultfd: [323, 282],
  vhangup: [153, 58],
}

interface Architecture {
  /** What the kernel calls it in `seccomp_data.arch`. */
  readonly audit: number
  /** In the table above. */
  readonly column: 0 | 1
  /** Numbers of the calls that are refused by their arguments. Neither has socketcall(2), by which others make sockets. */
  readonly clone: number
  readonly clone3: number
  readonly socket: number
  readonly socketpair: number
}

const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  x64: { audit: 0xc000003e, column: 0, clone: 56, clone3: 435, socket: 41, socketpair: 53 },
  arm64: { audit: 0xc00000b7, column: 1, clone: 220, clone3: 435, socket: 198, socketpair: 199 },
}

/**
 * The families of sockets that there are: AF_UNIX, AF_INET, AF_INET6, and AF_NETLINK, by which the C library lists network
 * interfaces. Of the others, AF_VSOCK reaches the host of a virtual machine whatever the network namespace, and the rest is
 * for no worker and full of old code.
 */
const FAMILIES = [1, 2, 10, 16]

const EPERM = 1
const ENOSYS = 38
const EAFNOSUPPORT = 97
/** Every `CLONE_NEW…` of clone(2): namespaces, of users above all, are where most escapes begin. */
const CLONE_NAMESPACES = 0x7e020000
/** Calls of the x32 ABI have this bit set in their number, and would go by the list above. */
const X32 = 0x40000000

/** Offsets in `struct seccomp_data`; the arguments are 64 bits each, little-endian on both architectures. */
const NUMBER = 0
const ARCHITECTURE = 4
const FIRST_ARGUMENT = 16

/** Opcodes of classic BPF (linux/filter.h), as seccomp takes it. */
const LOAD = 0x20
const JUMP_IF_EQUAL = 0x15
const JUMP_IF_AT_LEAST = 0x35
const JUMP_IF_ANY_BIT = 0x45
const RETURN = 0x06

const ALLOW = 0x7fff0000
const KILL_PROCESS = 0x80000000
const refuse = (errno: number) => 0x00050000 | errno

type Instruction = readonly [code: number, jumpTrue: number, jumpFalse: number, operand: number]

/**
 * The filter as `struct sock_filter[]`, which is what `bwrap --seccomp` reads.
 *
 * @returns `undefined` for an architecture whose system calls are not known here.
 */
export function seccompFilter(architecture: string = process.arch): Buffer | undefined {
  const target = ARCHITECTURES[architecture]
  if (target === undefined) return undefined
  const numbers = Object.values(REFUSED).flatMap((columns) => columns[target.column] ?? [])
  return assemble([
    [LOAD, 0, 0, ARCHITECTURE],
    [JUMP_IF_EQUAL, 1, 0, target.audit],
    [RETURN, 0, 0, KILL_PROCESS],
    [LOAD, 0, 0, NUMBER],
    ...when(JUMP_IF_AT_LEAST, X32, refuse(ENOSYS)),
    ...numbers.flatMap((number) => when(JUMP_IF_EQUAL, number, refuse(EPERM))),
    // The flags of clone3 are in memory, where no filter can look: without it the C library falls back to clone.
    ...when(JUMP_IF_EQUAL, target.clone3, refuse(ENOSYS)),
    [JUMP_IF_EQUAL, 1, 0, target.socket],
    [JUMP_IF_EQUAL, 0, FAMILIES.length + 3, target.socketpair],
    [LOAD, 0, 0, FIRST_ARGUMENT],
    ...FAMILIES.map((family, index) => [JUMP_IF_EQUAL, FAMILIES.length - index, 0, family] as const),
    [RETURN, 0, 0, refuse(EAFNOSUPPORT)],
    [RETURN, 0, 0, ALLOW],
    [JUMP_IF_EQUAL, 0, 3, target.clone],
    [LOAD, 0, 0, FIRST_ARGUMENT],
    ...when(JUMP_IF_ANY_BIT, CLONE_NAMESPACES, refuse(EPERM)),
    [RETURN, 0, 0, ALLOW],
  ])
}

/** Returns `verdict` when the comparison holds. */
function when(comparison: number, operand: number, verdict: number): readonly Instruction[] {
  return [
    [comparison, 0, 1, operand],
    [RETURN, 0, 0, verdict],
  ]
}

function assemble(program: readonly Instruction[]): Buffer {
  const bytes = Buffer.alloc(program.length * 8)
  for (const [index, [code, jumpTrue, jumpFalse, operand]] of program.entries()) {
    const offset = index * 8
    bytes.writeUInt16LE(code, offset)
    bytes.writeUInt8(jumpTrue, offset + 2)
    bytes.writeUInt8(jumpFalse, offset + 3)
    bytes.writeUInt32LE(operand >>> 0, offset + 4)
  }
  return bytes
}
