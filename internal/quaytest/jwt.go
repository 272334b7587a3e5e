package quaytest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"
)

// A grant is what a token allows on one repository.
type grant struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// claims are the contents of a V2 token.
type claims struct {
	Issuer    string  `json:"iss"`
	Audience  string  `json:"aud"`
	Subject   string  `json:"sub"`
	Expires   int64   `json:"exp"`
	NotBefore int64   `json:"nbf"`
	IssuedAt  int64   `json:"iat"`
	ID        string  `json:"jti"`
	Access    []grant `json:"access"`
}

const (
	anonymousSubject = "(anonymous)"
	tokenSkew        = 30 * time.Second
)

// signingKey is one for the process: making it costs a fraction of a second.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // no randomness
	}
	return key
})

var b64 = base64.RawURLEncoding

// sign makes an RS256 JWT.
func sign(c claims) (string, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	text := b64.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT","kid":"quaytest"}`)) + "." + b64.EncodeToString(body)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, signingKey(), crypto.SHA256, sum[:])
	if err != nil {
		return "", err
	}
	return text + "." + b64.EncodeToString(sig), nil
}

var errToken = errors.New("invalid bearer token")

// verify reads a token of sign's that is good at now for audience.
func verify(token, audience string, now time.Time) (claims, error) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return claims{}, errToken
	}
	sig, err := b64.DecodeString(token[i+1:])
	if err != nil {
		return claims{}, errToken
	}
	sum := sha256.Sum256([]byte(token[:i]))
	if err := rsa.VerifyPKCS1v15(&signingKey().PublicKey, crypto.SHA256, sum[:], sig); err != nil {
		return claims{}, errToken
	}
	_, body, _ := strings.Cut(token[:i], ".")
	raw, err := b64.DecodeString(body)
	var c claims
	if err != nil || json.Unmarshal(raw, &c) != nil {
		return claims{}, errToken
	}
	if c.Audience != audience || now.Add(-tokenSkew).Unix() >= c.Expires || now.Add(tokenSkew).Unix() < c.NotBefore {
		return claims{}, errToken
	}
	return c, nil
}

// looksLikeJWT reports whether token has the header of one.
func looksLikeJWT(token string) bool {
	head, _, dot := strings.Cut(token, ".")
	raw, err := b64.DecodeString(head)
	var h struct {
		Typ string `json:"typ"`
	}
	return dot && err == nil && json.Unmarshal(raw, &h) == nil && strings.EqualFold(h.Typ, "jwt")
}
