// The key vault with the secrets that no managed identity replaces. An app setting refers to each that is given, and is empty
// otherwise.
param name string
param location string
param tags object
param principalId string

@secure()
param sendGridKey string

@secure()
param crmToken string

@secure()
param sqlConnectionString string

var keyVaultSecretsUser = '4633458b-17de-408a-b874-0445c86b69e6'

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: subscription().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 7
  }
}

resource sendGridKeySecret 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = if (!empty(sendGridKey)) {
  parent: vault
  name: 'SendGridKey'
  properties: {
    value: sendGridKey
  }
}

resource crmTokenSecret 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = if (!empty(crmToken)) {
  parent: vault
  name: 'CrmToken'
  properties: {
    value: crmToken
  }
}

resource sqlConnectionSecret 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = if (!empty(sqlConnectionString)) {
  parent: vault
  name: 'SqlConnection'
  properties: {
    value: sqlConnectionString
  }
}

resource user 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault.id, principalId, keyVaultSecretsUser)
  scope: vault
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyVaultSecretsUser)
  }
}

// What goes out are references, not secrets.
#disable-next-line outputs-should-not-contain-secrets
output sendGridKeyReference string = empty(sendGridKey) ? '' : '@Microsoft.KeyVault(VaultName=${vault.name};SecretName=SendGridKey)'
#disable-next-line outputs-should-not-contain-secrets
output crmTokenReference string = empty(crmToken) ? '' : '@Microsoft.KeyVault(VaultName=${vault.name};SecretName=CrmToken)'
#disable-next-line outputs-should-not-contain-secrets
output sqlConnectionReference string = empty(sqlConnectionString) ? '' : '@Microsoft.KeyVault(VaultName=${vault.name};SecretName=SqlConnection)'
