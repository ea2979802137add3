package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/holdfast-config/holdfast/replication/durable"
)

// object is a file at the target; its name is relative to the target's path.
type object struct {
	name string
	size int64
	at   time.Time
}

// objectStore does what Litestream's clients cannot: list everything, read and write
// manifests, remove whole generations.
type objectStore interface {
	list(ctx context.Context, below string) ([]object, error)
	read(ctx context.Context, name string) ([]byte, error) // fs.ErrNotExist if it is missing
	write(ctx context.Context, name string, data []byte) error
	remove(ctx context.Context, names []string) error
}

func (t Target) open(ctx context.Context) (objectStore, error) {
	if dir, ok := t.dir(); ok {
		return directory(dir), nil
	}
	endpoint, region := t.service()
	opts := []func(*config.LoadOptions) error{config.WithRetryMaxAttempts(2)}
	if t.AccessKey != "" {
		opts = append(opts, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(t.AccessKey, t.SecretKey, "")))
	}
	opts = append(opts, config.WithRegion(region))
	if region == "" {
		opts[len(opts)-1] = config.WithRegion("us-east-1") // to query the actual one
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return nil, err
	}
	if region == "" {
		if cfg.Region, err = manager.GetBucketRegion(ctx, awss3.NewFromConfig(cfg), t.Bucket); err != nil {
			return nil, err
		}
	}
	return &bucket{name: t.Bucket, prefix: t.prefix(), c: awss3.NewFromConfig(cfg, func(o *awss3.Options) {
		if endpoint != "" {
			o.BaseEndpoint, o.UsePathStyle = aws.String(endpoint), true
			// Services other than Amazon's do not support its newer checksums.
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
	})}, nil
}

// bucket is an objectStore at an S3 service.
type bucket struct {
	name, prefix string
	c            *awss3.Client
}

func (b *bucket) key(name string) *string { return aws.String(path.Join(b.prefix, name)) }

func (b *bucket) list(ctx context.Context, below string) ([]object, error) {
	prefix := path.Join(b.prefix, below)
	if prefix != "" {
		prefix += "/"
	}
	var out []object
	for p := awss3.NewListObjectsV2Paginator(b.c, &awss3.ListObjectsV2Input{Bucket: &b.name, Prefix: aws.String(prefix)}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, o := range page.Contents {
			name := strings.TrimPrefix(strings.TrimPrefix(aws.ToString(o.Key), b.prefix), "/")
			out = append(out, object{name, aws.ToInt64(o.Size), aws.ToTime(o.LastModified)})
		}
	}
	return out, nil
}

func (b *bucket) read(ctx context.Context, name string) ([]byte, error) {
	got, err := b.c.GetObject(ctx, &awss3.GetObjectInput{Bucket: &b.name, Key: b.key(name)})
	if err != nil {
		if missing, ok := errors.AsType[*types.NoSuchKey](err); ok {
			return nil, errors.Join(fs.ErrNotExist, missing)
		}
		return nil, err
	}
	defer got.Body.Close()
	return io.ReadAll(io.LimitReader(got.Body, maxManifest))
}

func (b *bucket) write(ctx context.Context, name string, data []byte) error {
	_, err := b.c.PutObject(ctx, &awss3.PutObjectInput{Bucket: &b.name, Key: b.key(name), Body: bytes.NewReader(data)})
	return err
}

// remove deletes one by one: not every service supports deleting many at once.
func (b *bucket) remove(ctx context.Context, names []string) error {
	for _, n := range names {
		if _, err := b.c.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &b.name, Key: b.key(n)}); err != nil {
			return err
		}
	}
	return nil
}

// directory is an objectStore in the file system.
type directory string

func (d directory) path(name string) string {
	return filepath.Join(string(d), filepath.FromSlash(name))
}

func (d directory) list(ctx context.Context, below string) ([]object, error) {
	var out []object
	err := filepath.WalkDir(d.path(below), func(p string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // never created, or just removed
			return nil
		case err != nil || e.IsDir():
			return errors.Join(err, ctx.Err())
		case strings.HasPrefix(e.Name(), "."): // a temporary file that a crash left
			return nil
		}
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(string(d), p)
		out = append(out, object{filepath.ToSlash(rel), fi.Size(), fi.ModTime()})
		return err
	})
	return out, err
}

func (d directory) read(_ context.Context, name string) ([]byte, error) {
	return os.ReadFile(d.path(name))
}

func (d directory) write(_ context.Context, name string, data []byte) error {
	p := d.path(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(p, data, 0o600)
}

func (d directory) remove(_ context.Context, names []string) error {
	for _, n := range names {
		if err := os.Remove(d.path(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for up := filepath.Dir(d.path(n)); up != string(d) && len(up) > len(d); up = filepath.Dir(up) {
			if os.Remove(up) != nil { // not empty
				break
			}
		}
	}
	return nil
}
