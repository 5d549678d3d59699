#include "spec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"

#define LARGEST_SPEC (8 * 1024 * 1024)

struct spec read_spec(const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat info;
	if (fd < 0 || fstat(fd, &info) < 0)
		die_with_error("reading the spec %s", path);
	if (info.st_size <= 0 || info.st_size > LARGEST_SPEC)
		die("the spec %s has a length of %lld bytes", path, (long long)info.st_size);
	size_t length = (size_t)info.st_size;
	char *text = malloc(length);
	if (!text)
		die("out of memory");
	if (RETRY(read(fd, text, length)) != (ssize_t)length)
		die_with_error("reading the spec %s", path);
	if (text[length - 1] != '\0')
		die("the spec %s does not end with a zero byte", path);
	size_t count = 0;
	for (size_t at = 0; at < length; at++)
		count += text[at] == '\0';
	struct spec spec = {calloc(count + 1, sizeof(char *))};
	if (!spec.records)
		die("out of memory");
	char *record = text;
	for (size_t index = 0; index < count; index++) {
		if (!strchr(record, '='))
			die("a record of the spec %s has no '='", path);
		spec.records[index] = record;
		record += strlen(record) + 1;
	}
	return spec;
}

static const char *value_of(const char *record, const char *key)
{
	size_t length = strlen(key);
	return strncmp(record, key, length) == 0 && record[length] == '=' ? record + length + 1 : NULL;
}

const char *spec_value(const struct spec *spec, const char *key)
{
	for (char **record = spec->records; *record; record++) {
		const char *value = value_of(*record, key);
		if (value)
			return value;
	}
	return NULL;
}

const char *spec_required(const struct spec *spec, const char *key)
{
	const char *value = spec_value(spec, key);
	if (!value)
		die("the spec has no %s", key);
	return value;
}

char **spec_values(const struct spec *spec, const char *key)
{
	size_t count = 0;
	for (char **record = spec->records; *record; record++)
		count += value_of(*record, key) != NULL;
	char **values = calloc(count + 1, sizeof(char *));
	if (!values)
		die("out of memory");
	size_t index = 0;
	for (char **record = spec->records; *record; record++) {
		const char *value = value_of(*record, key);
		if (value)
			values[index++] = (char *)value;
	}
	return values;
}

static unsigned int parse_number(const char *text, char **end)
{
	errno = 0;
	unsigned long long number = strtoull(text, end, 10);
	if (errno || *end == text || *text == '-' || number >= 0xffffffffULL)
		die("\"%s\" is no id", text);
	return (unsigned int)number;
}

unsigned int spec_number(const struct spec *spec, const char *key)
{
	const char *text = spec_required(spec, key);
	char *end;
	unsigned int number = parse_number(text, &end);
	if (*end)
		die("%s=%s is no number", key, text);
	return number;
}

gid_t *spec_number_list(const char *text, size_t *count)
{
	*count = 0;
	gid_t *numbers = calloc(strlen(text) + 1, sizeof(gid_t));
	if (!numbers)
		die("out of memory");
	while (*text) {
		char *end;
		numbers[(*count)++] = parse_number(text, &end);
		if (*end && *end != ',')
			die("\"%s\" is no list of ids", text);
		text = *end ? end + 1 : end;
	}
	return numbers;
}

void check_spec(const struct spec *spec)
{
	static const char *const required[] = {"root", "runDir", "initPath", "hostname", "geometry", "home", "cwd", "arg"};
	for (size_t index = 0; index < sizeof(required) / sizeof(required[0]); index++)
		spec_required(spec, required[index]);
	spec_number(spec, "uid");
	spec_number(spec, "gid");
	size_t count;
	free(spec_number_list(spec_required(spec, "groups"), &count));
}
