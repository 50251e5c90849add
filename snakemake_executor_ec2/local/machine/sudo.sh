#!/bin/bash
# sudo of a host of the embedded cloud. Its one user already may do what root of the host may: this only takes
# the environment away, as the real one does, and runs the command.
keep= login= shell= user=root assignments=()
while [ $# -gt 0 ]; do
    case $1 in
    --) shift; break ;;
    --preserve-env|--preserve-env=*) keep=1; shift ;;
    --login) login=1; shift ;;
    --shell) shell=1; shift ;;
    --user=*) user=${1#*=}; shift ;;
    --user) user=$2; shift 2 ;;
    --validate|--list) exit 0 ;;
    --*) shift ;;
    -?*)
        letters=${1#-}; shift
        while [ -n "$letters" ]; do
            letter=${letters:0:1}; letters=${letters:1}
            case $letter in
            E) keep=1 ;;
            i) login=1 ;;
            s) shell=1 ;;
            v|l|k|K) [ $# -gt 0 ] || exit 0 ;;
            u|g|p|C|D|R|T|h)
                value=$letters; letters=
                if [ -z "$value" ]; then value=$1; shift; fi
                [ "$letter" != u ] || user=$value ;;
            esac
        done ;;
    *=*) assignments+=("$1"); shift ;;
    *) break ;;
    esac
done
home=/root
[ "$user" = root ] || home=/home/$user
if [ -n "@HOST_DIR@" ]; then home=$HOME; fi
if [ -n "$login" ]; then cd "$home" || exit 1; fi
if [ $# -eq 0 ]; then set -- /bin/bash
elif [ -n "$login$shell" ]; then set -- /bin/bash -c "$*"; fi
# One user id is root's and the user's: what only root may read nobody may, but while a command of root's runs.
opened=()
[ "$user" != root ] || while IFS= read -r path; do
    if [ "$(stat -c %a "$path" 2>/dev/null)" = 0 ]; then opened+=("$path"); fi
done < <(cat "@HOST_DIR@/etc/ec2-root-only" 2>/dev/null)
run() {
    [ ${#opened[@]} -gt 0 ] || exec "$@"
    chmod 600 "${opened[@]}"
    "$@"
    status=$?
    for path in "${opened[@]}"; do
        if [ "$(stat -c %a "$path" 2>/dev/null)" = 600 ]; then chmod 0 "$path"; fi
    done
    exit $status
}
identity=("HOME=$home" "USER=$user" "LOGNAME=$user" "SUDO_USER=$USER" "SUDO_COMMAND=$*" "PATH=@ROOT_PATH@")
if [ -n "$keep" ]; then run /usr/bin/env "${identity[@]}" "${assignments[@]}" "$@"; fi
system=()
while IFS= read -r line; do
    case $line in *=*) value=${line#*=}; value=${value#\'}; system+=("${line%%=*}=${value%\'}") ;; esac
done < "@HOST_DIR@/etc/environment"
run /usr/bin/env -i "TERM=${TERM:-dumb}" LANG=C.UTF-8 "SHELL=/bin/bash" "${system[@]}" "${identity[@]}" \
    "${assignments[@]}" "$@"
